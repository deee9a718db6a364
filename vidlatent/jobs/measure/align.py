"""Which frame of one video belongs to which of another: found by their times, and told where those differ."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np

from vidlatent.errors import BadInput, parameter

Mode = Literal["exact", "start", "index", "overlap"]
MODES: dict[str, str] = {
    "exact": "same number of frames, same times",
    "start": "the same once both begin at zero",
    "index": "frame by frame whatever their times, as far as both go",
    "overlap": "frames of the same time; those that only one has are left out",
}
_ALIGN = parameter("align")
_ELSE = f"{_ALIGN} overlap compares the frames both have, {_ALIGN} index pairs them by number"


@dataclass(frozen=True)
class TimedFrame:
    """One frame [H, W, 3] and its time in seconds."""

    rgb: np.ndarray = field(repr=False)
    at: Fraction


@dataclass
class Alignment:
    """How the frames of two videos were paired; complete once all pairs were taken."""

    mode: Mode
    pairs: int = 0
    offset: Fraction = Fraction(0)  # seconds that the second began later
    only_first: int = 0
    only_second: int = 0
    at: Fraction = Fraction(0)  # seconds: when the first of the last pair is shown

    def __str__(self) -> str:
        words = f"{self.pairs} pairs, {MODES[self.mode]}"
        if self.mode == "start":
            words += f"; the second shifted by {float(-self.offset):+.6g} s"
        if self.only_first or self.only_second:
            words += f"; left out {self.only_first} frames of the first, {self.only_second} of the second"
        return words


class Aligner:
    """Pairs the frames of two streams, in bounded memory.

    `tolerance` is how many seconds the times of one moment may differ: containers round times to their own
    ticks. Errors call the two streams by their `names`.
    """

    def __init__(self, mode: Mode, tolerance: Fraction, names: tuple[str, str]) -> None:
        self.alignment = Alignment(mode)
        self._tolerance = tolerance
        self._names = names

    def pairs(
        self, first: Iterator[TimedFrame], second: Iterator[TimedFrame]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of frames [H, W, 3]; raises BadInput where the mode does not allow the pairing."""
        together = self._overlap if self.alignment.mode == "overlap" else self._in_step
        for a, b in together(first, second):
            self.alignment.pairs += 1
            self.alignment.at = a.at
            yield a.rgb, b.rgb
        if not self.alignment.pairs:
            raise BadInput(f"{self._names[0]} and {self._names[1]} have no frame in common", _ELSE)

    def _in_step(
        self, first: Iterator[TimedFrame], second: Iterator[TimedFrame]
    ) -> Iterator[tuple[TimedFrame, TimedFrame]]:
        done = self.alignment
        while True:
            a, b = next(first, None), next(second, None)
            if a is None or b is None:
                break
            self._check_times(a, b)
            yield a, b
        done.only_first = sum(1 for _ in first) + (a is not None)
        done.only_second = sum(1 for _ in second) + (b is not None)
        if done.mode != "index" and (done.only_first or done.only_second):
            counts = [done.pairs + only for only in (done.only_first, done.only_second)]
            raise BadInput(
                f"{self._names[0]} has {counts[0]} frames, {self._names[1]} has {counts[1]}", _ELSE
            )

    def _check_times(self, a: TimedFrame, b: TimedFrame) -> None:
        done = self.alignment
        if done.mode == "index":
            return
        if done.mode == "start" and not done.pairs:
            done.offset = b.at - a.at
        if abs(b.at - a.at - done.offset) <= self._tolerance:
            return
        where = f"{self._names[0]} at {float(a.at):.6f} s, {self._names[1]} at {float(b.at):.6f} s"
        if done.pairs:
            raise BadInput(f"times part at frame {done.pairs}: {where}", _ELSE)
        raise BadInput(f"the videos begin apart: {where}", f"{_ALIGN} start lays their first frames together")

    def _overlap(
        self, first: Iterator[TimedFrame], second: Iterator[TimedFrame]
    ) -> Iterator[tuple[TimedFrame, TimedFrame]]:
        a, b = next(first, None), next(second, None)
        while a is not None and b is not None:
            if abs(b.at - a.at) <= self._tolerance:
                yield a, b
                a, b = next(first, None), next(second, None)
            elif a.at < b.at:
                self.alignment.only_first += 1
                a = next(first, None)
            else:
                self.alignment.only_second += 1
                b = next(second, None)
        self.alignment.only_first += sum(1 for _ in first) + (a is not None)
        self.alignment.only_second += sum(1 for _ in second) + (b is not None)
