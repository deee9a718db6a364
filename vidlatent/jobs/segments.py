"""One clip in several processes: each makes segments of it, and here they are put together in their order.

A segment is entered as far before as the network sees, so on a CPU what comes out is what one process makes,
bit for bit. Every process loads the model, on a device of its own where there are several, and reads the
source by itself; what it has made waits in a folder beside the target until its turn comes.
"""

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

import vidlatent
from vidlatent.engine.access import Access
from vidlatent.engine.model import Model
from vidlatent.errors import OutOfResources, UsageError, VidlatentError, parameter
from vidlatent.folders import FolderReplacement
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.models import ModelChoice
from vidlatent.windows import Plan

WORKER = "vidlatent.jobs.segment_worker"
LONG = 4  # times as long as its lead is a segment: a fifth of the work is done twice
AHEAD = 2  # segments that each process is asked for at once, so that it never waits for this one
READ_BYTES = 8 << 20  # of what a segment gave, at once


@dataclass(frozen=True)
class Workers:
    """The processes that share the work: each loads the chosen model, on its own of the `devices`."""

    choice: ModelChoice
    devices: tuple[str | None, ...]


@dataclass(frozen=True)
class Task:
    """What all segments of a clip have in common.

    `source` is a video, read as `read` says, or where that is None a `.latent`, `part` of a file, of which
    the frames of `span` are wanted. A segment is `length` latents.
    """

    source: Path
    folder: Path
    plan: Plan
    length: int
    read: ReadOptions | None = None
    span: tuple[int, int] = (0, 0)
    part: tuple[int, int] | None = None


@dataclass(frozen=True)
class Start:
    """The first message to a process: the task, the model for it, and how many threads compute."""

    task: Task
    choice: ModelChoice
    threads: int
    weights_sha256: str


@dataclass(frozen=True)
class Done:
    """The answer of a process: a segment lies in the folder, so many items of a shape and dtype."""

    number: int
    items: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Failure:
    """The last answer of a process: the error that ended its work."""

    error: VidlatentError


def share_memory(limit: int | None, workers: Workers | None) -> int | None:
    """How much of a limit in bytes each process may take, of those that run on the same device."""
    if limit is None or workers is None:
        return limit
    return limit * len(set(workers.devices)) // len(workers.devices)


def choose_workers(
    workers: Workers | None, access: Access, rereadable: bool, passes: int
) -> tuple[Workers | None, tuple[str, ...]]:
    """The processes that share a clip, or None and words where one must do it alone."""
    if workers is None:
        return None, ()
    if not rereadable:
        return None, ("one process does it all: the source can be read only once",)
    if not access.is_anywhere:
        return None, ("one process does it all: what the model sees of a clip has no end",)
    if passes > 1:
        return None, ("one process does it all: tiles go through the clip one by one",)
    return workers, ()


def choose_length(access: Access, workers: int, latents: int | None) -> int:
    """How many latents make a segment: many, so that little is done twice, but some for each worker."""
    most = LONG * access.lead
    if latents is not None:
        most = min(most, max(access.lead, -(-latents // workers)))
    return -(-most // access.step) * access.step


class Pool:
    """Processes that make the segments of a clip; a context manager, which ends them."""

    def __init__(self, task: Task, workers: Workers, model: Model) -> None:
        self._folder = task.folder
        self._processes: list[subprocess.Popen] = []
        try:
            for device in workers.devices:
                choice = replace(workers.choice, device=device)
                start = Start(task, choice, torch.get_num_threads(), model.weights_sha256)
                self._processes.append(_start_process())
                _send(self._processes[-1].stdin, start)
        except BaseException:
            self.close()
            raise

    def segments(self, numbers: Sequence[int] | None = None, first: int = 0) -> Iterator[tuple[Done, Path]]:
        """The segments of these numbers in order, or all from `first` on until one has no items.

        A file lasts until the next is asked for.
        """
        asked = iter(numbers) if numbers is not None else count(first)
        waiting: list[tuple[int, subprocess.Popen]] = []
        turns = iter(self._turns())
        while True:
            while len(waiting) < AHEAD * len(self._processes) and (number := next(asked, None)) is not None:
                waiting.append((number, next(turns)))
                _send(waiting[-1][1].stdin, number)
            if not waiting:
                return
            number, process = waiting.pop(0)
            done = self._receive(process, number)
            if not done.items:
                return
            path = self._folder / str(number)
            yield done, path
            path.unlink()

    def close(self) -> None:
        """End all processes."""
        for process in self._processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):
                    pipe.close()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _turns(self) -> Iterator[subprocess.Popen]:
        while True:
            yield from self._processes

    def _receive(self, process: subprocess.Popen, number: int) -> Done:
        try:
            answer = pickle.load(process.stdout)
        except (EOFError, pickle.UnpicklingError) as e:
            raise OutOfResources(
                f"the process that made segment {number} of the clip died (exit code {process.wait()})",
                f"fewer {parameter('jobs')} take less memory",
            ) from e
        if isinstance(answer, Failure):
            raise answer.error
        assert answer.number == number
        return answer


def read_items(done: Done, path: Path) -> Iterator[np.ndarray]:
    """What a segment gave, a few items at a time."""
    size = int(np.prod(done.shape))
    each = max(1, READ_BYTES // (size * np.dtype(done.dtype).itemsize))
    with path.open("rb") as file:
        for start in range(0, done.items, each):
            items = min(each, done.items - start)
            yield np.fromfile(file, done.dtype, items * size).reshape(items, *done.shape)


@contextmanager
def keep_segments(target: Path | None) -> Iterator[Path]:
    """Give a folder for segments that wait, while the block runs: beside `target`, if there is one."""
    if target is None:
        with tempfile.TemporaryDirectory(prefix="vidlatent-") as folder:
            yield Path(folder)
        return
    waiting = FolderReplacement(target.with_name(f"{target.name}.segments"))  # emptied of a killed run's
    try:
        yield waiting.partial
    finally:
        waiting.discard()


def refuse_others(model: Model, start: Start) -> None:
    """Raise UsageError where a process has loaded another model than the one that asked it."""
    if model.weights_sha256 != start.weights_sha256:
        ours, theirs = start.weights_sha256[:12], model.weights_sha256[:12]
        raise UsageError(
            f"{parameter('jobs')}: a process loaded other weights ({theirs}…) than are in use ({ours}…)",
            "choose the same model for both",
        )


def _start_process() -> subprocess.Popen:
    """Start the program of a worker by `python -m`, so that it neither needs nor inherits our state."""
    home = str(Path(vidlatent.__file__).parent.parent)
    paths = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )


def _send(pipe: BinaryIO, message: object) -> None:
    with suppress(BrokenPipeError):  # the answer, or its lack, says more
        pickle.dump(message, pipe)
        pipe.flush()
