"""The clock of a clip: when every frame is shown, exactly."""

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np


@dataclass(frozen=True, eq=False)
class FrameClock:
    """Presentation times of all frames of a clip.

    `pts` are int64 in units of `time_base` seconds, `durations` likewise (0 = unknown: a frame then
    lasts until the next one). Times are exact; seconds as float exist only for printing.
    """

    time_base: Fraction
    pts: np.ndarray
    durations: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        if self.time_base <= 0:
            raise ValueError(f"a tick must last some time, got a time base of {self.time_base} s")
        if len(self.durations) not in (0, len(self.pts)):
            raise ValueError(f"expected {len(self.pts)} durations or none, got {len(self.durations)}")

    def __len__(self) -> int:
        return len(self.pts)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, FrameClock)
            and self.time_base == other.time_base
            and np.array_equal(self.pts, other.pts)
            and np.array_equal(self.durations, other.durations)
        )

    def seconds(self, index: int) -> Fraction:
        """Presentation time of frame `index` in seconds."""
        return int(self.pts[index]) * self.time_base

    @property
    def duration(self) -> Fraction:
        """From the start of the first frame to the end of the last, in seconds."""
        if not len(self.pts):
            return Fraction(0)
        return (int(self.pts[-1]) - int(self.pts[0]) + self.last_duration) * self.time_base

    def duration_of(self, index: int) -> int:
        """For how many ticks frame `index` is shown: its own duration, else the step to the next frame."""
        if len(self.durations) and self.durations[index] > 0:
            return int(self.durations[index])
        if index + 1 < len(self.pts):
            return int(self.pts[index + 1] - self.pts[index])
        return self.last_duration

    @property
    def end(self) -> Fraction:
        """The time at which the last frame ends, in seconds."""
        return (int(self.pts[-1]) + self.last_duration) * self.time_base

    @property
    def last_duration(self) -> int:
        """For how many ticks the last frame is shown: its own duration, else the step before it, else 1."""
        if len(self.durations) and self.durations[-1] > 0:
            return int(self.durations[-1])
        return int(self.pts[-1] - self.pts[-2]) if len(self.pts) > 1 else 1

    @property
    def average_rate(self) -> Fraction:
        """Frames per second over the whole clip; 0 where it has no duration."""
        return Fraction(len(self.pts)) / self.duration if self.duration > 0 else Fraction(0)

    def slice(self, start: int, stop: int) -> "FrameClock":
        """The clock of frames [start, stop)."""
        return FrameClock(self.time_base, self.pts[start:stop], self.durations[start:stop])
