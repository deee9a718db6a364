"""Bounded read-ahead: a thread that prepares a few items before they are asked for."""

import threading
from collections.abc import Iterable, Iterator
from queue import Empty, Full, Queue
from typing import TypeVar

T = TypeVar("T")
_POLL_S = 0.1
_START_S = 1.0  # in which a thread surely begins, if it was started


def prefetch(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """Yield `items` in order while a thread makes the next ones: `depth` wait at most, and one is in work.

    An error in the source is raised here, after the items before it. Closing the generator stops
    the thread and closes the source.
    """
    queue: Queue[tuple[T | None, BaseException | None]] = Queue(maxsize=max(1, depth))
    stop, begun = threading.Event(), threading.Event()
    thread = threading.Thread(
        target=_fill, args=(items, queue, stop, begun), name="vidlatent-prefetch", daemon=True
    )
    try:
        thread.start()  # waits until the thread runs, so a signal may be raised here
        while True:
            item, end = _get(queue, thread)
            if isinstance(end, StopIteration):
                return
            if end is not None:
                raise end
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        if begun.wait(_START_S):  # a process must not end beside a thread that a signal left half started
            thread.join()


def _fill(items: Iterable[T], queue: Queue, stop: threading.Event, begun: threading.Event) -> None:
    begun.set()
    if stop.is_set():  # the consumer was interrupted while it started this thread, and may close the source
        return
    end: BaseException = StopIteration()
    try:
        _pass_on(items, queue, stop)
    except BaseException as e:  # the consumer raises it, whatever it is
        end = e
    _put(queue, (None, end), stop)


def _pass_on(items: Iterable[T], queue: Queue, stop: threading.Event) -> None:
    """Put every item until the consumer stops; close the source in the thread that has read it."""
    source = iter(items)
    try:
        for item in source:
            if not _put(queue, (item, None), stop):
                return
    finally:
        if hasattr(source, "close"):
            source.close()


def _put(queue: Queue, entry: tuple, stop: threading.Event) -> bool:
    """Put an entry; False where the consumer has stopped."""
    while not stop.is_set():
        try:
            queue.put(entry, timeout=_POLL_S)
            return True
        except Full:
            continue
    return False


def _get(queue: Queue, thread: threading.Thread) -> tuple:
    """Get an entry; waits in short steps, so that signals are handled in between."""
    while True:
        try:
            return queue.get(timeout=_POLL_S)
        except Empty:
            if not thread.is_alive() and queue.empty():
                raise RuntimeError("the reading thread died without a word") from None
