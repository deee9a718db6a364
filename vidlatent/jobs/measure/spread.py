"""How far numbers of one kind lie apart."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Self


@dataclass(frozen=True)
class Spread:
    """Mean, sample deviation, least and most of `count` finite numbers; `std` of a single one is 0."""

    count: int
    mean: float
    std: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self | None:
        """The spread of those values that are finite; None where none is."""
        known = [value for value in values if math.isfinite(value)]
        if not known:
            return None
        std = stdev(known) if len(known) > 1 else 0.0
        return cls(len(known), fmean(known), std, min(known), max(known))
