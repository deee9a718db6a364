"""Clips that are read in other processes: one, and several at once, bounded in bytes."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Self, TypeVar

from vidlatent.errors import BadVideo, OutOfResources
from vidlatent.io.read.source import Frame, VideoInfo
from vidlatent.jobs.reading.messages import Failure, Opened, Pixels, Read
from vidlatent.jobs.reading.process import Watchdog, Worker
from vidlatent.jobs.reading.survey import Look, Seen

T = TypeVar("T")
AHEAD = 4  # sources that are looked at ahead of time, per process
_POLL_S = 0.1


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
    """A VideoSource whose frames come from a worker: see video_source.VideoSource.

    Reading begins at once, or when the worker is done with the clip `after` which it reads now.
    """

    info: VideoInfo

    def __init__(
        self, worker: Worker, question: Read, limit: int, after: "RemoteVideo | None" = None
    ) -> None:
        self._worker, self._question = worker, question
        self._frames = Budget(limit)
        self._after = after
        self._reading, self._closed = False, False
        self._turn = threading.Lock()  # held where one of these two changes
        self.notices: list[str] = []
        self.starved_s = 0.0  # the model waited for so long
        self._thread = threading.Thread(target=self._fill, name="vidlatent-reader", daemon=True)
        self._thread.start()

    @property
    def full_s(self) -> float:
        """Seconds that the reader waited for the model."""
        return self._frames.full_s

    def _fill(self) -> None:
        if self._after is not None:
            self._after._thread.join()
            self._after = None
        with self._turn:
            self._reading = not self._closed
        if self._reading:
            self._read()
        with self._turn:
            self._reading = False

    def _read(self) -> None:
        try:
            for head, pixels in self._worker.ask(self._question):
                if isinstance(head, Pixels):
                    frame = Frame(pixels, head.pts, head.duration)
                    if not self._frames.put(frame, pixels.nbytes):
                        self._worker.kill()  # it would go on with a clip that nobody wants
                        return
                else:
                    self._frames.put(head, 0)
        except BaseException as e:  # raised where the clip is used
            self._frames.put(e, 0)

    def _next(self) -> object:
        began = time.perf_counter()
        item = self._frames.get()
        self.starved_s += time.perf_counter() - began
        if isinstance(item, BaseException):
            raise item
        if isinstance(item, Failure):
            fatal = isinstance(item.error, OutOfResources)  # no fault of the clip
            raise item.error if fatal else BadVideo(*item.error.args)
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
        """Let go; a clip that is being read takes its process with it, but no clip that comes after it."""
        self.stop()
        self._thread.join()

    def stop(self) -> None:
        """Read no more, or do not begin."""
        self._frames.stop()
        with self._turn:
            self._closed = True
            if self._reading:
                self._worker.kill()


class Readers:
    """Some workers: they look at sources, or read several clips ahead. A context manager.

    A worker that has read its clip begins the next one while the model still has frames of the former: one
    clip more than there are workers is under way. `limit` bounds the frames that wait, in bytes; a worker
    that makes no progress for `stall_s` seconds is ended, and its clip given up (0: never).
    """

    def __init__(self, count: int, limit: int = 0, stall_s: float = 0) -> None:
        self._workers = [Worker() for _ in range(count)]
        self._limit = limit // (count + 1)
        self._watchdog = Watchdog(self._workers, stall_s) if stall_s else None

    def videos(self, items: Iterable[T], question: Callable[[T], Read]) -> Iterator[tuple[T, RemoteVideo]]:
        """Each item and its clip, in order, while the next ones are being read."""
        flying: deque[tuple[T, RemoteVideo]] = deque()
        launched = self._launched(items, question)
        try:
            flying.extend(islice(launched, len(self._workers) + 1))
            while flying:
                item, video = flying.popleft()
                try:
                    yield item, video
                finally:
                    video.close()
                flying.extend(islice(launched, 1))
        finally:
            for _, video in reversed(flying):  # so that none begins because another one ends
                video.stop()
            for _, video in flying:
                video.close()

    def _launched(self, items: Iterable[T], question: Callable[[T], Read]) -> Iterator[tuple[T, RemoteVideo]]:
        """Each item and its clip as it is given to a worker: to each in turn, so they come back in turn."""
        last: list[RemoteVideo | None] = [None] * len(self._workers)
        for n, item in enumerate(items):
            turn = n % len(self._workers)
            last[turn] = RemoteVideo(self._workers[turn], question(item), self._limit, last[turn])
            yield item, last[turn]

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
        if self._watchdog is not None:
            self._watchdog.stop()
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
            return answer if isinstance(answer, Seen) else Seen(error=answer.error)
    except BadVideo as e:
        return Seen(error=e)
    finally:
        free.put(worker)
