"""The rates that codecs are measured at: numbers, and words that follow the models' own rates."""

import math
from collections.abc import Iterator, Sequence

EQUAL = "equal"  # the rate of each model's latents
LADDER = "ladder"  # powers of two below each model's rate
RATE_WORDS = (EQUAL, LADDER)
RUNGS = 5  # so far does a ladder reach that good codecs fall below the quality of the models


def list_rates(
    rates: Sequence[float | str], models: Sequence[tuple[str, float | None]]
) -> Iterator[tuple[str, float]]:
    """What each rate is called, and its bits per pixel; `models` are names and rates, None where one failed.

    Each is listed once, in the order asked for.
    """
    known = [(name, rate) for name, rate in models if rate]
    found: dict[str, float] = {}
    for rate in rates:
        if rate == EQUAL:
            found |= {f"as {name}": own for name, own in known}
        elif rate == LADDER:
            rungs = {rung for _, own in known for rung in list_rungs(own)}
            found |= {_name_rate(rung): rung for rung in sorted(rungs, reverse=True)}
        else:
            found[_name_rate(float(rate))] = float(rate)
    yield from found.items()


def list_rungs(rate: float) -> list[float]:
    """Powers of two below a rate; the first is at most its 1/√2, so that it is a point of its own.

    Powers, not fractions of the rate: clips whose latents have a few more bits get rungs of the same names.
    """
    top = math.floor(math.log2(rate) - 0.5)
    return [2.0 ** (top - n) for n in range(RUNGS)]


def _name_rate(rate: float) -> str:
    return f"{rate:g} bpp"
