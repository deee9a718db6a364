"""In which form a job stores latents: what its options `store` and `pack` say."""

from vidlatent.dtypes import DTYPES
from vidlatent.errors import UsageError, parameter
from vidlatent.io.coded.floats import Floats
from vidlatent.io.coded.form import Form
from vidlatent.io.coded.int8 import Int8
from vidlatent.io.coded.planes import Planes
from vidlatent.io.latent.layout import ITEM_BYTES

INT8 = Int8.name
STORES = (*DTYPES, INT8)
PLANES_SHARE = 0.66  # of their size that packed floats take: of bf16, of real clips; others are near it


def check_store(store: str | None, pack: bool, posterior: str) -> None:
    """Raise UsageError where these words name no form, or none for what is stored of the posterior."""
    if store is not None and store not in STORES:
        raise UsageError(f"{parameter('store')} {store}: unknown", f"one of {', '.join(STORES)}")
    if store == INT8 and pack:
        raise UsageError(
            f"{parameter('pack')}: packs floats, and {store} are none", f"leave {parameter('pack')} out"
        )
    if posterior == "full" and (pack or store == INT8):
        asked = parameter("pack") if pack else f"{parameter('store')} {store}"
        raise UsageError(
            f"{asked}: of {parameter('posterior')} full mean and logvar are stored as floats",
            f"leave {parameter('posterior')} full out, or take {parameter('store')} {', '.join(DTYPES)}",
        )


def choose_form(store: str | None, pack: bool, computed: str) -> Form:
    """The form that these words name; `computed` is the dtype where none is named."""
    if store == INT8:
        return Int8()
    dtype = DTYPES[store or computed].stored
    return Planes(dtype) if pack else Floats(dtype)


def name_store(form: str, dtype: str) -> str:
    """What was asked for of latents that are stored in a form, and read as a dtype, in the user's words."""
    words = next((name for name, known in DTYPES.items() if known.stored == dtype), dtype)
    return f"{words} --pack" if form == Planes.name else form or words


def guess_item_bytes(store: str | None, pack: bool, computed: str) -> float:
    """About how many bytes one latent will take."""
    if store == INT8:
        return 1
    return ITEM_BYTES[DTYPES[store or computed].stored] * (PLANES_SHARE if pack else 1)
