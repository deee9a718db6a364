"""The program of a process that makes segments of a clip for another one; see `segments`.

It takes a `Start` on stdin, then numbers of segments, and answers each on stdout when its file is complete.
"""

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO, Protocol

import numpy as np
import torch

from vidlatent.engine.access import Access
from vidlatent.engine.model import Model
from vidlatent.engine.stream import has_frames, skip
from vidlatent.errors import VidlatentError
from vidlatent.files import naming_disk_errors
from vidlatent.io.latent.reader import LatentReader, open_latent
from vidlatent.io.read.source import open_video
from vidlatent.jobs.decode import choose_model, decode_frames, fit_model
from vidlatent.jobs.segments import Done, Failure, Start, Task, refuse_others
from vidlatent.prefetch import prefetch

READ_AHEAD_FRAMES = 8


class Maker(Protocol):
    """Makes segments of one clip."""

    model: Model

    def make(self, number: int) -> Iterator[np.ndarray]:
        """The items of a segment, several at a time."""
        ...


class Frames:
    """The frames of a video from any number on; it is read again where it has been read further than that."""

    def __init__(self, task: Task) -> None:
        self._task, self._open = task, ExitStack()
        self._begin()

    def from_number(self, start: int) -> Iterator[np.ndarray]:
        """The frames from number `start` on, as far as whoever takes them wants."""
        if start < self._next:
            self._open.close()
            self._begin()
        for frame in self._frames:
            self._next += 1
            if self._next > start:
                yield frame.rgb

    def _begin(self) -> None:
        video = self._open.enter_context(open_video(self._task.source, self._task.read))
        self.info, self._next = video.info, 0
        self._frames = self._open.enter_context(closing(prefetch(video.frames(), READ_AHEAD_FRAMES)))


class EncodeSegments:
    """Makes moments of the frames of a video."""

    def __init__(self, task: Task, model: Model) -> None:
        self._task, self.model = task, model
        self._frames = Frames(task)
        info = self._frames.info
        self._access = Access.to_encoder(model, task.plan, info.height, info.width)

    def make(self, number: int) -> Iterator[np.ndarray]:
        """Moments [t, 2C, h, w] of the latents of a segment; none where the clip has ended."""
        first = number * self._task.length
        begin = self._access.begin(first, first + 1)
        start, known, wanted = begin * self._access.each, self._frames.info.counted_frames, self._task.length
        frames = self._frames.from_number(start)
        windows = self.model.encode_clip(frames, self._task.plan, known, start=start)
        for moments in filter(has_frames, skip(windows, first - begin)):
            yield moments[0].transpose(0, 1)[:wanted].cpu().numpy()
            wanted -= min(wanted, moments.shape[2])
            if not wanted:
                return


class DecodeSegments:
    """Makes frames of the latents of a file."""

    def __init__(self, task: Task, model: Model, source: LatentReader) -> None:
        self._task, self.model, self._source = task, model, source

    def make(self, number: int) -> Iterator[np.ndarray]:
        """Those frames [1, H, W, 3] of a segment that are wanted."""
        grid, length, (first, last) = self.model.spec.grid, self._task.length, self._task.span
        low, high = (grid.frames(latent) for latent in (number * length, (number + 1) * length))
        span = max(first, low), min(last, high)
        with closing(decode_frames(self._source, self.model, self._task.plan, span)) as frames:
            for rgb in frames:
                yield rgb[None]


def write(path: Path, number: int, items: Iterator[np.ndarray]) -> Done:
    """Write the items of a segment to a file."""
    total, shape, dtype = 0, (), "|u1"
    with naming_disk_errors(path), path.open("xb") as file:
        for several in items:
            file.write(np.ascontiguousarray(several).data)
            total, shape, dtype = total + len(several), several.shape[1:], several.dtype.str
    return Done(number, total, shape, dtype)


def listen(pipe: BinaryIO, questions: SimpleQueue) -> None:
    """Take messages until the other process ends; then nobody wants what is being made here."""
    while True:
        try:
            questions.put(pickle.load(pipe))
        except (EOFError, pickle.UnpicklingError):
            os._exit(0)


def work(start: Start, questions: SimpleQueue, answer: Callable[[Done], None]) -> None:
    """Make the segments that are asked for, one after the other."""
    torch.set_num_threads(start.threads)  # kernels may add in another order with other numbers of them
    task = start.task
    with ExitStack() as stack:
        if task.read is None:
            source = stack.enter_context(open_latent(task.source, task.part))
            model = fit_model(source, choose_model(source, start.choice))
            maker: Maker = DecodeSegments(task, model, source)
        else:
            maker = EncodeSegments(task, start.choice.load(only="encode"))
        refuse_others(maker.model, start)
        while True:
            number = questions.get()
            answer(write(task.folder / str(number), number, maker.make(number)))


def main() -> None:
    """Answer until stdin ends. Ctrl-C is ignored: the other process acts on it, and ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up among the answers
    questions: SimpleQueue = SimpleQueue()
    threading.Thread(target=listen, args=(sys.stdin.buffer, questions), daemon=True).start()

    def answer(message: Done | Failure) -> None:
        pickle.dump(message, out)
        out.flush()

    try:
        work(questions.get(), questions, answer)
    except VidlatentError as e:
        answer(Failure(e))


if __name__ == "__main__":
    main()
