"""The parent's side of reading in other processes: a worker, a clip being read, several at once."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Self, TypeVar

import numpy as np

from vidlatent.errors import BadVideo, OutOfResources
from vidlatent.io.video_source import Frame, VideoInfo
from vidlatent.jobs.cache.messages import Closed, Failure, Opened, Pixels, Read, receive, send
from vidlatent.jobs.cache.survey import Look, Seen

T = TypeVar("T")
AHEAD = 4  # sources that are looked at ahead of time, per process
_POLL_S = 0.1
_PIPE_BYTES = 1 << 20
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ of Linux


class Worker:
    """A reading process, begun when it is first asked and again after it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None

    def ask(self, question: Look | Read) -> Iterator[tuple[object, np.ndarray | None]]:
        """Every answer, pixels beside it; raises BadVideo where the process dies of the question."""
        process = self._running()
        try:
            send(process.stdin, question)
            while True:
                head = receive(process.stdout)
                if head is None:
                    raise self._died(process, question)
                yield head, _body(process, head)
                if not isinstance(head, Opened | Pixels):
                    return
        except BrokenPipeError as e:
            raise self._died(process, question) from e

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process is not None else None

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
            self._process = _begun()
        return self._process

    def _died(self, process: subprocess.Popen, question: Look | Read) -> BadVideo:
        code = process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return BadVideo(
            f"{question.path}: the process that read it died ({how})", "its codec cannot take this file"
        )


def _begun() -> subprocess.Popen:
    """`python -m` and not multiprocessing: it needs nothing of whoever called us, and inherits nothing."""
    import vidlatent

    home = str(Path(vidlatent.__file__).parent.parent)
    paths = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "vidlatent.jobs.cache.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):
            fcntl.fcntl(process.stdout, _SET_PIPE_SIZE, _PIPE_BYTES)
    return process


def _body(process: subprocess.Popen, head: object) -> np.ndarray | None:
    if not isinstance(head, Pixels):
        return None
    pixels = np.empty(head.shape, head.dtype)
    if process.stdout.readinto(memoryview(pixels).cast("B")) != pixels.nbytes:
        raise BrokenPipeError
    return pixels


class Budget:
    """Frames of one clip on their way from reader to model: bounded in bytes, one frame at least."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held, self._stopped = limit, 0, False
        self._room = threading.Condition()
        self._queue: SimpleQueue = SimpleQueue()
        self.full_s = 0.0  # the reader waited for so long

    def put(self, item: object, nbytes: int) -> bool:
        """Wait for room; False where nobody will ever take the item."""
        began = time.perf_counter()
        with self._room:
            while self._held and self._held + nbytes > self._limit and not self._stopped:
                self._room.wait()
            self._held += nbytes
            self.full_s += time.perf_counter() - began
            if not self._stopped:
                self._queue.put((item, nbytes))
            return not self._stopped

    def get(self) -> object:
        """The next item; notices signals while it waits."""
        while True:
            try:
                item, nbytes = self._queue.get(timeout=_POLL_S)
            except Empty:
                continue
            with self._room:
                self._held -= nbytes
                self._room.notify()
            return item

    def stop(self) -> None:
        """Nobody takes any more."""
        with self._room:
            self._stopped = True
            self._room.notify()


class RemoteVideo:
    """A VideoSource whose frames come from a worker: see video_source.VideoSource. Reading begins at once."""

    info: VideoInfo

    def __init__(self, worker: Worker, question: Read, limit: int) -> None:
        self._worker, self._question = worker, question
        self._frames = Budget(limit)
        self._ended = False
        self.notices: list[str] = []
        self.starved_s = 0.0  # the model waited for so long
        self._thread = threading.Thread(target=self._fill, name="vidlatent-reader", daemon=True)
        self._thread.start()

    @property
    def full_s(self) -> float:
        """Seconds that the reader waited for the model."""
        return self._frames.full_s

    def _fill(self) -> None:
        try:
            for head, pixels in self._worker.ask(self._question):
                if isinstance(head, Pixels):
                    frame = Frame(pixels, head.pts, head.duration)
                    if not self._frames.put(frame, pixels.nbytes):
                        return
                else:
                    self._frames.put(head, 0)
        except BaseException as e:  # raised where the clip is used
            self._frames.put(e, 0)

    def _next(self) -> object:
        began = time.perf_counter()
        item = self._frames.get()
        self.starved_s += time.perf_counter() - began
        self._ended = isinstance(item, Closed | Failure | BaseException)
        if isinstance(item, BaseException):
            raise item
        if isinstance(item, Failure):
            raise (OutOfResources if item.fatal else BadVideo)(*item.what.split("\nhint: ", 1))
        return item

    def frames(self) -> Iterator[Frame]:
        """The frames in order; raises BadVideo where the video cannot be read on."""
        while isinstance(item := self._next(), Frame):
            yield item
        self.notices += item.notices

    def __enter__(self) -> Self:
        opened = self._next()
        assert isinstance(opened, Opened)
        self.info = opened.info
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go; a clip that was not read to its end takes its process with it."""
        self._frames.stop()
        if not self._ended:
            self._worker.kill()
        self._thread.join()


class Readers:
    """Some workers: they look at sources, or read several clips ahead. A context manager."""

    def __init__(self, count: int, limit: int = 0) -> None:
        self._workers = [Worker() for _ in range(count)]
        self._limit = limit // count

    def videos(self, items: Iterable[T], question: Callable[[T], Read]) -> Iterator[tuple[T, RemoteVideo]]:
        """Each item and its clip, in order, while the next ones are being read."""
        items, flying = iter(items), deque()
        try:
            for worker in self._workers:
                self._launch(worker, items, question, flying)
            while flying:
                item, video, worker = flying.popleft()
                try:
                    yield item, video
                finally:
                    video.close()
                self._launch(worker, items, question, flying)
        finally:
            for _, video, _ in flying:
                video.close()

    def _launch(self, worker: Worker, items: Iterator[T], question: Callable, flying: deque) -> None:
        for item in items:
            flying.append((item, RemoteVideo(worker, question(item), self._limit), worker))
            return

    def looks(
        self, items: Iterable[T], question: Callable[[T], Look | None]
    ) -> Iterator[tuple[T, Seen | None]]:
        """Each item and what was seen of it, in order, some ahead; None where there was no question."""
        free: SimpleQueue[Worker] = SimpleQueue()
        for worker in self._workers:
            free.put(worker)
        ahead: deque = deque()
        pool = ThreadPoolExecutor(len(self._workers))
        try:
            for item in items:
                ahead.append((item, pool.submit(_seen, free, question(item))))
                if len(ahead) > AHEAD * len(self._workers):
                    first, seen = ahead.popleft()
                    yield first, seen.result()
            for first, seen in ahead:
                yield first, seen.result()
        except BaseException:  # nobody waits for the rest, which may be the hash of a long film
            self.kill()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End all processes; those that are asked again begin anew."""
        for worker in self._workers:
            worker.kill()


def _seen(free: SimpleQueue, question: Look | None) -> Seen | None:
    if question is None:
        return None
    worker = free.get()
    try:
        for answer, _ in worker.ask(question):
            return answer if isinstance(answer, Seen) else Seen(error=answer.what)
    except BadVideo as e:
        return Seen(error=str(e))
    finally:
        free.put(worker)
