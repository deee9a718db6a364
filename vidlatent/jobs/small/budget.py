"""What packing latents may cost."""

import math
from dataclasses import dataclass

from vidlatent.errors import UsageError, parameter
from vidlatent.io.coded.packed import Packed
from vidlatent.jobs.storing import check_store

PACKED = Packed.name
DEFAULT_DROP_DB = 0.1
MOST_SNR_DB = 1000  # of a floor, either way: no latents have more


@dataclass(frozen=True)
class Budget:
    """What packing may cost: one of a `max_drop` of decoded PSNR in dB, of a rate `bpp` in bits per pixel of
    the source, of a `step` k, as in k/√sensitivity; 0.1 dB where none is given.

    In any case the latents of each channel keep an SNR of `min_latent_snr` dB, for those who train on them.
    """

    max_drop: float | None = None
    min_latent_snr: float = 20.0
    bpp: float | None = None
    step: float | None = None

    def __post_init__(self) -> None:
        named = (parameter("max_drop"), parameter("bpp"), parameter("step"))
        pairs = zip(named, (self.max_drop, self.bpp, self.step), strict=True)
        given = {name: value for name, value in pairs if value is not None}
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)}: one of them decides", "leave out the others")
        for name, value in given.items():
            if not 0 < value < math.inf:
                raise UsageError(f"{name} {value:g}: nothing can be that", "give a number above 0")
        if not abs(self.min_latent_snr) <= MOST_SNR_DB:  # NaN neither
            floor = f"{parameter('min_latent_snr')} {self.min_latent_snr:g}"
            raise UsageError(f"{floor}: not decibels that latents can have", "give a number such as 20")

    @property
    def drop(self) -> float | None:
        """The drop that is allowed; None where something else decides."""
        free = self.bpp is None and self.step is None
        return (self.max_drop or DEFAULT_DROP_DB) if free else None

    def facts(self) -> dict[str, float]:
        """All that decides over the steps, defaults as well, as JSON values."""
        chosen = {"max_drop": self.drop, "bpp": self.bpp, "step": self.step}
        given = {name: float(value) for name, value in chosen.items() if value is not None}
        return {**given, "min_latent_snr": float(self.min_latent_snr)}


def check_store_and_budget(store: str | None, pack: bool, posterior: str, budget: Budget | None) -> None:
    """Raise UsageError where these words name no form, `packed` included, or none for the posterior."""
    if store != PACKED:
        check_store(store, pack, posterior)
        if budget is not None:
            raise UsageError("a budget is for what is packed", f"add {parameter('store')} {PACKED}")
        return
    if pack:
        raise UsageError(
            f"{parameter('pack')}: packs floats, and {store} are none", f"leave {parameter('pack')} out"
        )
    refuse_full(posterior)


def refuse_full(posterior: str, where: str = "") -> None:
    """Raise UsageError where mean and logvar are wanted, which are stored as floats."""
    if posterior == "full":
        raise UsageError(
            f"{where}{parameter('posterior')} full is stored as floats, not as {PACKED}",
            f"take {parameter('posterior')} mode, or {parameter('store')} bf16",
        )
