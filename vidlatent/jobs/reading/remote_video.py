"""A video that another process reads ahead of whoever uses it, bounded in bytes."""

import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Self

from vidlatent.errors import BadVideo
from vidlatent.io.read.source import Frame, VideoInfo
from vidlatent.jobs.reading.messages import Failure, Opened, Pixels, Read
from vidlatent.jobs.reading.process import Worker, never

_POLL_S = 0.1


class FrameQueue:
    """Frames of one clip on their way from reader to model: bounded in bytes, but one frame always fits."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held, self._stopped = limit, 0, False
        self._room = threading.Condition()
        self._queue: SimpleQueue = SimpleQueue()
        self.full_s = 0.0  # seconds that the reader waited for room

    def put(self, item: object, nbytes: int) -> bool:
        """Add an item once there is room for it; False where the queue was stopped."""
        began = time.perf_counter()
        with self._room:
            while self._held and self._held + nbytes > self._limit and not self._stopped:
                self._room.wait()
            self._held += nbytes
            self.full_s += time.perf_counter() - began
            if not self._stopped:
                self._queue.put((item, nbytes))
            return not self._stopped

    def get(self, given_up: Callable[[], bool] = never) -> object:
        """The next item; None where `given_up` says that nobody wants it any more.

        It waits in short steps, so that Ctrl-C is noticed meanwhile.
        """
        while True:
            try:
                item, nbytes = self._queue.get(timeout=_POLL_S)
            except Empty:
                if given_up():
                    return None
                continue
            with self._room:
                self._held -= nbytes
                self._room.notify()
            return item

    def stop(self) -> None:
        """Refuse all further items: nobody will take them."""
        with self._room:
            self._stopped = True
            self._room.notify()


class RemoteVideo:
    """A VideoSource whose frames come from a worker. A thread fetches them before they are asked for.

    Reading begins at once, or when the worker is done with the clip `after`, which it reads now.
    """

    info: VideoInfo

    def __init__(
        self, worker: Worker, question: Read, limit: int, after: "RemoteVideo | None" = None
    ) -> None:
        self._worker, self._question = worker, question
        self._frames = FrameQueue(limit)
        self._after = after
        self._reading, self._closed = False, False
        self._turn = threading.Lock()  # held where one of these two changes
        self.notices: list[str] = []
        self.starved_s = 0.0  # seconds that the model waited for frames
        self.store_s = 0.0  # seconds that the reader waited for a copy of what lies in a store
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
        before = self._worker.store_s
        try:
            for head, pixels in self._worker.ask(self._question):
                self.store_s = self._worker.store_s - before
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
        if isinstance(item, Failure):  # too little memory for one clip included: others may do with it
            raise BadVideo(*item.error.args)
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
        """Close the video. Where it is still being read, end its process; the next clip starts it again."""
        self.stop()
        self._thread.join()

    def stop(self) -> None:
        """Read no further, or do not begin."""
        self._frames.stop()
        with self._turn:
            self._closed = True
            if self._reading:
                self._worker.kill()
