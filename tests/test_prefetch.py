"""Reading ahead changes when things are read, and nothing else."""

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from vidlatent.prefetch import prefetch


def wait_until(condition, timeout_s: float = 5.0) -> bool:
    """Whether `condition` came true in time."""
    end = time.monotonic() + timeout_s
    while not (true := condition()) and time.monotonic() < end:
        time.sleep(0.005)
    return true


def reading_threads() -> list[threading.Thread]:
    """Threads of ours that are alive."""
    return [thread for thread in threading.enumerate() if thread.name == "vidlatent-prefetch"]


@pytest.mark.parametrize("depth", [0, 1, 2, 50])
def test_items_come_all_and_in_order(depth: int):
    assert list(prefetch(range(20), depth)) == list(range(20))


def test_nothing_is_nothing():
    assert list(prefetch([])) == []


def test_none_is_an_item_like_any_other():
    assert list(prefetch([None, None])) == [None, None]


@pytest.mark.parametrize(("depth", "waiting"), [((), 2), ((0,), 1), ((1,), 1), ((3,), 3)])
def test_items_are_read_ahead_but_no_further_than_asked(depth: tuple[int, ...], waiting: int, monkeypatch):
    monkeypatch.setattr("vidlatent.prefetch._POLL_S", 0.005)
    read = []
    items = prefetch((read.append(i) or i for i in range(100)), *depth)
    next(items)
    assert wait_until(lambda: len(read) == waiting + 2)  # one given, one in hand
    time.sleep(0.05)  # however often the thread looks whether there is room
    assert len(read) == waiting + 2
    assert all(thread.daemon for thread in reading_threads()), "a program may end meanwhile"
    assert list(items) == list(range(1, 100))


def test_a_slow_source_is_waited_for(monkeypatch):
    monkeypatch.setattr("vidlatent.prefetch._POLL_S", 0.005)
    assert list(prefetch(time.sleep(0.03) or i for i in range(3))) == [0, 1, 2]


def test_a_thread_that_died_without_a_word_is_an_error_and_no_end(monkeypatch):
    monkeypatch.setattr("vidlatent.prefetch._fill", lambda *_: None)
    with pytest.raises(RuntimeError, match="died without a word"):
        next(prefetch(range(3)))


def test_an_error_comes_after_the_items_before_it():
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("torn")

    got, items = [], prefetch(source())
    with pytest.raises(OSError, match="torn"):
        got.extend(items)  # extend keeps what came before the error
    assert got == [1, 2]


def test_a_source_that_cannot_even_begin_says_why():
    class Closed:
        def __iter__(self) -> Iterator[int]:
            raise OSError("closed")

    with pytest.raises(OSError, match="closed"):
        next(prefetch(Closed()))


def test_an_interrupt_in_the_source_reaches_the_consumer():
    def source() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(prefetch(source()))


def test_leaving_early_closes_the_source_and_ends_the_thread():
    """The source never ends: to read it to its end first is not to leave."""
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.set()

    items = prefetch(source())
    next(items)
    items.close()
    assert closed.is_set()
    assert not reading_threads()


def test_no_thread_is_left_when_the_consumer_fails():
    def consume() -> None:
        for i in prefetch(range(1000)):
            if i == 3:
                raise RuntimeError("consumer")

    with pytest.raises(RuntimeError, match="consumer"):
        consume()
    assert wait_until(lambda: not reading_threads())


def test_an_interruption_while_the_thread_starts_leaves_no_thread_behind(monkeypatch):
    """Ctrl-C in Thread.start() left the source being read while its owner closed it."""
    really_start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        really_start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(prefetch(range(1000)))
    assert not reading_threads()


def test_a_thread_that_starts_after_the_interruption_leaves_the_source_alone(monkeypatch):
    """The same, where the interruption came before the thread was running."""
    late, touched = [], []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: late.append(thread) or interrupt())
    with pytest.raises(KeyboardInterrupt):
        next(prefetch(touched.append(i) or i for i in range(3)))
    monkeypatch.undo()
    late[0].start()
    late[0].join()
    assert touched == []


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_thread_that_a_signal_left_half_started_has_ended_before_the_consumer_goes_on(monkeypatch):
    """A process that ended beside it was aborted."""
    ended = []

    class Late(threading.Thread):
        def start(self) -> None:
            threading.Timer(0.05, super().start).start()
            raise KeyboardInterrupt

        def run(self) -> None:
            super().run()
            ended.append(self.name)

    monkeypatch.setattr("vidlatent.prefetch.threading.Thread", Late)
    with pytest.raises(KeyboardInterrupt):
        next(prefetch(range(3)))
    assert ended == ["vidlatent-prefetch"]
