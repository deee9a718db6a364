"""Several reading processes at once: clips read ahead of the model, or sources looked at ahead of the run."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from queue import SimpleQueue
from typing import Self, TypeVar

from vidlatent.errors import BadVideo
from vidlatent.jobs.reading.messages import Read
from vidlatent.jobs.reading.process import Watchdog, Worker
from vidlatent.jobs.reading.remote_video import RemoteVideo, never
from vidlatent.jobs.reading.scratch import Scratch
from vidlatent.jobs.reading.survey import Look, Seen

T = TypeVar("T")
AHEAD = 4  # sources that are looked at ahead of time, per process
_POLL_S = 0.2


class Readers:
    """Some reading processes. A context manager, which ends them.

    A worker that has read its clip begins the next one while the model still has frames of the former, so one
    clip more than there are workers is under way. `limit` bounds the frames that wait, in bytes. A worker
    that makes no progress for `stall_timeout` seconds is ended, and its clip given up; 0 waits for ever.
    Once `stopped` says so, sources are looked at no further; while the run is `stopping`, a worker that hangs
    is ended soon. What lies in a store is read from copies in `scratch`.
    """

    def __init__(
        self,
        count: int,
        limit: int = 0,
        stall_timeout: float = 0,
        stopped: Callable[[], bool] = never,
        stopping: Callable[[], bool] = never,
        scratch: Scratch | None = None,
    ) -> None:
        self._stopped, self._own = stopped, Scratch(stopped=stopped) if scratch is None else None
        self._scratch = scratch or self._own
        self._workers = [Worker(self._scratch) for _ in range(count)]
        self._limit = limit // (count + 1)
        watched = stall_timeout or stopping is not never
        self._watchdog = Watchdog(self._workers, stall_timeout, stopping) if watched else None

    def videos(self, items: Iterable[T], question: Callable[[T], Read]) -> Iterator[tuple[T, RemoteVideo]]:
        """Each item and its clip, in order, while the next ones are being read."""
        flying: deque[tuple[T, RemoteVideo]] = deque()
        launched = self._launch(items, question)
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

    def _launch(self, items: Iterable[T], question: Callable[[T], Read]) -> Iterator[tuple[T, RemoteVideo]]:
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
        ended = False
        pool = ThreadPoolExecutor(len(self._workers))
        try:
            for item in items:
                if (asked := question(item)) is not None:
                    self._scratch.begin(asked.source)
                ahead.append((item, pool.submit(_ask_free_worker, free, asked)))
                if len(ahead) > AHEAD * len(self._workers) and self._wait_for(ahead[0][1]):
                    first, seen = ahead.popleft()
                    yield first, seen.result()
                if self._stopped():
                    break
            while ahead and self._wait_for(ahead[0][1]):
                first, seen = ahead.popleft()
                yield first, seen.result()
            ended = not ahead
        finally:
            pool.shutdown(
                wait=False, cancel_futures=True
            )  # first, or a process would begin with the next one
            if not ended:  # asked to stop: nobody waits for the rest, which may be the hash of a long film
                self.kill()
            pool.shutdown()

    def _wait_for(self, seen: Future) -> bool:
        """Wait until it is known what was seen; False where it is asked to stop before."""
        while not seen.done() and not self._stopped():
            wait([seen], _POLL_S)
        return seen.done()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._watchdog is not None:
            self._watchdog.stop()
        self.kill()
        if self._own is not None:
            self._own.close()

    def kill(self) -> None:
        """End all processes. A question that comes later starts its process again."""
        for worker in self._workers:
            worker.kill()


def _ask_free_worker(free: SimpleQueue, question: Look | None) -> Seen | None:
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
