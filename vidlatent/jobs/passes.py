"""Frames on their way from a source to a network: read once or several times, their times noted."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from fractions import Fraction

import numpy as np

from vidlatent.clock import FrameClock
from vidlatent.io.read.source import Frame, VideoSource
from vidlatent.jobs.progress import Progress
from vidlatent.prefetch import prefetch

READ_AHEAD_FRAMES = 8


class Passes:
    """Reads a source as often as is wanted: the open video at first, and after that it is opened anew."""

    def __init__(self, video: VideoSource, reopen: Callable[[], VideoSource]) -> None:
        self._video, self._reopen = video, reopen
        self._reading: Iterator[Frame] | None = None

    def read(self) -> Iterator[Frame]:
        """Give the frames from the first one on, read ahead."""
        first = self._reading is None
        self._reading = prefetch(self._video.frames(), READ_AHEAD_FRAMES) if first else self._read_anew()
        return self._reading

    def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.close()

    def _read_anew(self) -> Iterator[Frame]:
        with self._reopen() as video, closing(prefetch(video.frames(), READ_AHEAD_FRAMES)) as ahead:
            yield from ahead


class FrameTimes:
    """Notes the times of frames that pass by on their way to the network.

    Where they pass by several times, each pass is an equal part of the work, and the first tells the times.
    The network gets those from number `start` on.
    """

    def __init__(self, progress: Progress, passes: int = 1, start: int = 0) -> None:
        self._progress, self._passes, self._start = progress, passes, start
        self._seen = 0
        self._pts: list[int] = []
        self._durations: list[int] = []

    def watch(self, frames: Iterator[Frame]) -> Iterator[np.ndarray]:
        """Give the pixels [H, W, 3] of each frame, and keep its times."""
        first = not self._seen
        for number, frame in enumerate(frames):
            if first:
                self._pts.append(frame.pts)
                self._durations.append(frame.duration)
            self._seen += 1
            self._progress.frames(self._seen // self._passes)
            if number >= self._start:
                yield frame.rgb

    def clock(self, time_base: Fraction) -> FrameClock:
        """The clock of all frames that have passed by."""
        return FrameClock(time_base, np.array(self._pts, np.int64), np.array(self._durations, np.int64))


@contextmanager
def passing_by(frames: Iterator[np.ndarray]) -> Iterator[Callable[[], object]]:
    """Let frames pass by in another thread while the block runs; what is given waits for the last of them."""
    stop = threading.Event()

    def run() -> None:
        for _ in frames:
            if stop.is_set():
                return

    with ThreadPoolExecutor(1, "vidlatent-times") as thread:
        passing = thread.submit(run)
        try:
            yield passing.result
        finally:
            stop.set()
