"""Which frames of a video become clips. Frames are counted after its rate was changed."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Self, TypeVar

from vidlatent.errors import UsageError, parameter
from vidlatent.grid import Grid
from vidlatent.io.picture.timeline import bound_rate
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.reading.survey import Probe
from vidlatent.windows import TimeRule

T = TypeVar("T")
CUT, PAD, DROP = "cut", "pad", "drop"
FRAMES_RULES = (CUT, PAD, DROP)
HEAD, MIDDLE, CHUNK, SLIDE, UNIFORM, FULL = "head", "middle", "chunk", "slide", "uniform", "full"
TAKES = (HEAD, MIDDLE, CHUNK, FULL)  # those that are a word alone
COUNTED_TAKES = (SLIDE, UNIFORM)  # those that are a word and a number


@dataclass(frozen=True)
class Numbering:
    """The frames of a video as its header tells them, at the rate asked for.

    Frame k is shown at first_s + k / rate: exactly where the video is `resampled`, else at about that time.
    """

    rate: Fraction
    first_s: Fraction
    total: int
    resampled: bool

    @classmethod
    def of(cls, read: ReadOptions, probe: Probe) -> Self | None:
        """The numbering of a video; None where its header does not tell how long it is."""
        asked = read.fps and bound_rate(read.fps)  # as readers take it
        rate, frames = asked or probe.rate or Fraction(1), probe.frames
        if read.fps is not None and probe.duration_s is not None:
            step = 1 / probe.rate if probe.rate else Fraction(0)
            last = floor((probe.duration_s - step) * rate + Fraction(1, 2))  # the slot of the last frame
            frames = max(1, last + 1, floor(probe.duration_s * rate + Fraction(1, 2)))
        if frames is None:
            return None
        return cls(rate, probe.first_s or Fraction(0), frames, read.fps is not None)

    def number_at(self, time: Fraction) -> int:
        """The number of the first frame at or after a time; it may be one that does not exist."""
        return ceil((time - self.first_s) * self.rate)

    def time_before(self, number: int) -> Fraction | None:
        """A time from which on reading begins with this frame; None: from the start of the video."""
        early = 0 if self.resampled else Fraction(1, 2)  # stamps are rounded by the container
        return self.first_s + (number - early) / self.rate if number > 0 else None

    def within(self, read: ReadOptions) -> tuple[int, int]:
        """[first, stop) of the frames that `read` asks for."""
        first = 0 if read.start is None else max(0, self.number_at(read.start))
        stop = self.total if read.end is None else min(self.total, self.number_at(read.end))
        return first, min(stop, first + read.frames) if read.frames else stop


@dataclass(frozen=True)
class Take:
    """How many frames a clip has, and which of a video they are.

    `counts` are the lengths that clips may have: of each video the largest that fits is taken. `mode` says
    which of its frames: the first ("head"), those in its `middle`, one clip behind the other ("chunk"), a
    clip every `number` frames ("slide"), `number` clips at equal distances ("uniform"), or all of them up to
    the largest count ("full").
    """

    counts: tuple[int, ...] = ()
    mode: str = HEAD
    number: int = 0

    def __post_init__(self) -> None:
        if not self.counts and self.mode != FULL:
            raise UsageError(
                f"{parameter('take')} {self.mode}: of how many frames?",
                f"say it by {parameter('frames')}, for instance 1,25,81",
            )

    @classmethod
    def parse(cls, text: str | None, counts: tuple[int, ...]) -> Self:
        """What "head", "slide:STRIDE" and so on mean; None means "head"."""
        word, colon, number = (text or HEAD).partition(":")
        if word in TAKES and not colon:
            return cls(counts, word)
        if word in COUNTED_TAKES and number.isdecimal() and int(number):
            return cls(counts, word, int(number))
        known = ", ".join((*TAKES, "slide:STRIDE", "uniform:N"))
        raise UsageError(f"{parameter('take')} {text}: unknown", f"one of {known}")

    def pick(self, available: int) -> list[tuple[int, int]]:
        """(first, count) of every clip of a video that has so many frames; none where it is too short."""
        if self.mode == FULL:
            return [(0, min(available, *self.counts[-1:]) if self.counts else available)]
        count = max((count for count in self.counts if count <= available), default=None)
        return [] if count is None else [(first, count) for first in self._firsts(available - count, count)]

    def _firsts(self, room: int, count: int) -> Iterator[int] | list[int]:
        if self.mode == MIDDLE:
            return [room // 2]
        if self.mode in (CHUNK, SLIDE):
            return range(0, room + 1, self.number or count)
        if self.mode == UNIFORM:
            return sorted({room * n // max(1, self.number - 1) for n in range(self.number)})
        return [0]


class LeftOut(Exception):
    """A clip that the recipe leaves out, as is found once its frames are counted; the text says why."""


class GridKeeper:
    """Lets as many frames of a clip pass as fit a model's grid, and counts those that it keeps back.

    Frames are held until it is known that they fit: a few of them, as many as one latent stands for.
    """

    def __init__(self, rule: TimeRule, grid: Grid, wanted: int | None = None) -> None:
        self._rule, self._grid, self._wanted = rule, grid, wanted
        self.count = self.left = 0

    def fits(self, count: int) -> bool:
        """Whether a clip that is known to have so many frames comes back as it is."""
        return self._grid.fits(count)

    def cut(self, frames: Iterator[T]) -> Iterator[T]:
        """The frames of a clip up to the last that fits."""
        held: list[T] = []
        for frame in frames:
            self.count += 1
            held.append(frame)
            if not self._missing():
                yield from held
                held.clear()
        self.left = len(held)
        if 0 < self.count == self.left:
            raise LeftOut(f"{self.count} frames are fewer than {self._grid.least}, the fewest of this model")
        self._refuse_short()

    def drop(self, frames: Iterator[T]) -> Iterator[T]:
        """All frames; raises LeftOut at the end where they do not fit."""
        yield from self.count_all(frames)
        if self._missing():
            raise LeftOut(f"{self.count} frames are not {describe_grid(self._rule, self._grid)}")

    def count_all(self, frames: Iterator[T]) -> Iterator[T]:
        """All frames."""
        for frame in frames:
            self.count += 1
            yield frame
        self._refuse_short()

    def _missing(self) -> int:
        """How many frames the clip so far lacks to fit."""
        if self._grid.pairs:
            return self._rule.missing(self.count, self._grid.step)
        return self._grid.missing_frames(self.count)

    def _refuse_short(self) -> None:
        if self._wanted is not None and self.count < self._wanted:
            raise LeftOut(
                f"{self._wanted} frames are wanted, and {self.count} there: fewer than the header says"
            )


def describe_grid(rule: TimeRule, grid: Grid) -> str:
    """The numbers of frames that fit, in words."""
    step = rule.stride if grid.pairs and rule.batches and rule.stride else grid.step
    return f"{grid.least} + {step}k"
