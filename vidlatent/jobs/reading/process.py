"""A reading process as its parent sees it, and the watchdog that ends one that hangs."""

import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from vidlatent.errors import BadVideo, parameter
from vidlatent.io.sources.stores import never
from vidlatent.jobs.reading.messages import (
    MORE_FOLLOWS,
    PARENT,
    Alive,
    Pixels,
    Question,
    Read,
    receive,
    send,
)
from vidlatent.jobs.reading.scratch import Scratch, hold_copy
from vidlatent.jobs.reading.survey import Seen

STALL_TIMEOUT = 300.0  # seconds, where nobody says otherwise
_PIPE_BYTES = 1 << 20
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ of Linux
_LONGEST_TICK_S = 1.0
STOPPING_S = 5.0  # so long is a worker waited for at most that says nothing while the run is to end


class Abandoned(BadVideo):
    """A video whose reading hung while the run was to end: nothing is known against it."""


_KILLED = -9  # the exit code of a process that SIGKILL ended; Windows, which has no such signal, gives others


class Worker:
    """A process that reads videos, see worker.py. A question starts it where it does not run (any more).

    It reads what lies in a store from a copy in `scratch`: the process itself asks no store.
    """

    def __init__(self, scratch: Scratch | None = None) -> None:
        self._scratch = scratch
        self.store_s = 0.0  # seconds that it has waited for copies
        self._process: subprocess.Popen | None = None
        self.heard = 0  # messages so far, for the watchdog
        self.listening = False  # whether somebody waits for the next one, likewise
        self._stopping = False  # likewise, while the run was to end
        self._stalled_s: float | None = None  # it was ended because it said nothing for so long

    def ask(self, question: Question) -> Iterator[tuple[object, np.ndarray | None]]:
        """Every answer, with the pixels that follow it; raises BadVideo where the process dies of it.

        A process that something else has killed, as a machine does that is out of memory, is started once
        more: it is not known to be the video's fault. Answers that were given are left out then.
        """
        with hold_copy(self._scratch, question.source) as held:
            self.store_s += held.waited_s
            for head, pixels in self._ask(replace(question, source=held.source)):
                if isinstance(head, Seen) and held.state is not None:
                    head = replace(head, state=held.state)
                yield head, pixels

    def _ask(self, question: Question) -> Iterator[tuple[object, np.ndarray | None]]:
        given = 0
        for last in (False, True):
            process = self._running()
            try:
                for head, pixels in self._answers(process, question, given):
                    given += 1
                    yield head, pixels
                return
            except BrokenPipeError as e:
                if last or not self._was_killed(process):
                    raise self._died(process, question, given) from e

    def _answers(
        self, process: subprocess.Popen, question: Question, skipped: int
    ) -> Iterator[tuple[object, np.ndarray | None]]:
        """Every answer of a process but the first ones; raises BrokenPipeError where it dies."""
        send(process.stdin, question)
        while True:
            head, pixels = self._next(process)
            if head is None:
                raise BrokenPipeError
            if isinstance(head, Alive):
                continue
            if not isinstance(head, MORE_FOLLOWS):
                yield head, pixels
                return
            if skipped:
                skipped -= 1
            else:
                yield head, pixels

    def _next(self, process: subprocess.Popen) -> tuple[object, np.ndarray | None]:
        self.listening = True
        try:
            head = receive(process.stdout)
            return head, _read_body(process, head)
        finally:
            self.listening = False
            self.heard += 1

    @property
    def pid(self) -> int | None:
        """The number of the process; None while none runs."""
        return self._process.pid if self._process is not None else None

    def give_up(self, stall_timeout: float, stopping: bool = False) -> None:
        """End a process that has said nothing for so many seconds; whoever waits for it gets an error.

        Where that is because the run is `stopping`, it is Abandoned.
        """
        process = self._process
        if process is not None:
            self._stalled_s, self._stopping = stall_timeout, stopping
            process.kill()

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):
                    pipe.close()

    def _running(self) -> subprocess.Popen:
        if self._process is None or self._process.poll() is not None:
            self.kill()
            self._process, self._stalled_s = _starter(os.getpid()).submit(_start).result(), None
            receive(self._process.stdout)  # wait here until it has started: no clip is to blame for that time
        return self._process

    def _was_killed(self, process: subprocess.Popen) -> bool:
        """Whether the process was killed, and not by us."""
        return self._process is process and self._stalled_s is None and process.wait() == _KILLED

    def _died(self, process: subprocess.Popen, question: Question, given: int) -> BadVideo:
        code, name = process.wait(), question.source.name
        if self._stalled_s is not None and self._stopping:
            return Abandoned(f"{name}: reading it hung while the run was to end")
        if self._stalled_s is not None:
            return BadVideo(
                f"{name}: reading it made no progress for {self._stalled_s:g} s, and was given up",
                f"its codec or its disk hangs; {parameter('stall_timeout')} says how long to wait",
            )
        where = f" at frame {max(0, given - 1)}" if isinstance(question, Read) else ""  # the first is Opened
        if code == _KILLED:
            return BadVideo(
                f"{name}: the process that read it was killed twice (SIGKILL){where}",
                "most likely this machine ran out of memory: read fewer clips at once, or smaller ones",
            )
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return BadVideo(
            f"{name}: the process that read it died ({how}){where}",
            "its codec cannot take this file",
        )


@cache
def _starter(pid: int) -> ThreadPoolExecutor:
    """The one thread of the process `pid` that starts others: Linux ends a child with the thread that did."""
    return ThreadPoolExecutor(1, "vidlatent-starter")


def _start() -> subprocess.Popen:
    """Start worker.py by `python -m`, not by multiprocessing: so it neither needs nor inherits our state."""
    import vidlatent

    home = str(Path(vidlatent.__file__).parent.parent)
    paths = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "vidlatent.jobs.reading.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths, PARENT: str(os.getpid())},
    )
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):
            fcntl.fcntl(process.stdout, _SET_PIPE_SIZE, _PIPE_BYTES)
    return process


def _read_body(process: subprocess.Popen, head: object) -> np.ndarray | None:
    if not isinstance(head, Pixels):
        return None
    pixels = np.empty(head.shape, head.dtype)
    if process.stdout.readinto(memoryview(pixels).cast("B")) != pixels.nbytes:
        raise BrokenPipeError
    return pixels


class Watchdog:
    """A thread that ends workers which say nothing for `stall_timeout` seconds while somebody waits for them.

    While the run is `stopping` they have STOPPING_S at most. It counts its own wake-ups instead of looking at
    a clock: after Ctrl-Z, or after the machine slept, no worker is overdue.
    """

    def __init__(
        self, workers: Sequence[Worker], stall_timeout: float, stopping: Callable[[], bool] = never
    ) -> None:
        self._workers, self._stopping = workers, stopping
        self._stall_timeout = stall_timeout or math.inf
        self._tick_s = min(_LONGEST_TICK_S, self._stall_timeout / 4)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="vidlatent-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        heard = [0] * len(self._workers)
        silent_s = [0.0] * len(self._workers)
        while not self._ended.wait(self._tick_s):
            stopping = self._stopping()
            limit = min(self._stall_timeout, STOPPING_S) if stopping else self._stall_timeout
            for n, worker in enumerate(self._workers):
                quiet = worker.listening and worker.heard == heard[n]
                silent_s[n] = silent_s[n] + self._tick_s if quiet else 0.0
                heard[n] = worker.heard
                if silent_s[n] >= limit:
                    worker.give_up(limit, stopping)
                    silent_s[n] = 0.0
