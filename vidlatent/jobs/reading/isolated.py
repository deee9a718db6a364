"""Videos read one at a time in a second process, so that a codec that crashes fails one clip and no other."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Self

import numpy as np

from vidlatent.io.read.source import Frame, ReadOptions, VideoInfo, VideoSource, open_video
from vidlatent.io.sources.disk import DiskSource
from vidlatent.jobs.reading.messages import Closed, Failure, Opened, Pixels, Read
from vidlatent.jobs.reading.process import STALL_TIMEOUT, Watchdog, Worker
from vidlatent.jobs.reading.scratch import Scratch

STDIN = "-"


class IsolatedReader:
    """Opens one video after the other in a second process, which is started again where it died.

    A video that makes no progress for `stall_timeout` seconds while somebody waits for it is given up; 0
    waits for ever. What lies in a store is read from copies in `scratch`.
    """

    def __init__(self, stall_timeout: float = STALL_TIMEOUT, scratch: Scratch | None = None) -> None:
        self._worker = Worker(scratch)
        self._stall_timeout = stall_timeout
        self._watchdog: Watchdog | None = None

    def open(self, path: Path | str, options: ReadOptions) -> VideoSource:
        """As `open_video`, pixel for pixel; raises BadVideo where the process dies.

        Stdin is this process's own, so it is read here.
        """
        if str(path) == STDIN:
            return open_video(path, options)
        return self.ask(Read(DiskSource(Path(path)), options))

    def frames(self, question: Read) -> Generator[np.ndarray]:
        """The frames [H, W, 3] of the video that is asked for, from its beginning."""
        with self.ask(question) as video:
            for frame in video.frames():
                yield frame.rgb

    def ask(self, question: Read) -> "IsolatedVideo":
        """The video that is asked for, which may lie in a tar."""
        if self._stall_timeout and self._watchdog is None:
            self._watchdog = Watchdog([self._worker], self._stall_timeout)
        return IsolatedVideo(self._worker, question)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._watchdog is not None:
            self._watchdog.stop()
        self._worker.kill()


class IsolatedVideo:
    """A VideoSource whose frames come from a worker; each is fetched when it is asked for."""

    info: VideoInfo

    def __init__(self, worker: Worker, question: Read) -> None:
        self._worker = worker
        self._answers = worker.ask(question)
        self._ended = False
        self.notices: list[str] = []

    def _next(self) -> Opened | Closed | Frame:
        head, pixels = next(self._answers)
        self._ended = isinstance(head, Closed | Failure)
        if isinstance(head, Failure):
            raise head.error
        return Frame(pixels, head.pts, head.duration) if isinstance(head, Pixels) else head

    def frames(self) -> Iterator[Frame]:
        """The frames in order; raises BadVideo where the video cannot be read on."""
        while isinstance(item := self._next(), Frame):
            yield item
        self.notices += item.notices

    def __enter__(self) -> Self:
        self.info = self._next().info
        return self

    def __exit__(self, *_: object) -> None:
        """Close the video. Where frames are left, end the process, which would go on sending them."""
        if not self._ended:
            self._worker.kill()
