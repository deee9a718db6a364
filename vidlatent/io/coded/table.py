"""The forms by the names that the headers of files give them."""

from collections.abc import Callable, Mapping

from vidlatent.dtypes import STORED_DTYPES
from vidlatent.io.coded.form import Form
from vidlatent.io.coded.int8 import Int8
from vidlatent.io.coded.packed import Packed
from vidlatent.io.coded.planes import Planes

FORMS: Mapping[str, Callable[[Mapping[str, object]], Form]] = {
    "int8": lambda facts: Int8(),
    "packed": Packed.of,
    "planes": lambda facts: Planes(_read_dtype(facts)),
}


def find_form(facts: Mapping[str, object]) -> Form:
    """The form that the fact `stored` of a header describes; raises ValueError where it describes none."""
    return FORMS[str(facts["form"])](facts)


def _read_dtype(facts: Mapping[str, object]) -> str:
    dtype = facts.get("dtype")
    if dtype not in STORED_DTYPES:
        raise ValueError(f"stored.dtype: expected {' or '.join(STORED_DTYPES)}, got {dtype!r:.40}")
    return str(dtype)
