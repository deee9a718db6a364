"""Questions to a store, many at a time: each takes long, and costs nothing but waiting."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A, B = TypeVar("A"), TypeVar("B")
AT_ONCE = 16


def map_ahead(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """`function` of every item, in order, while some of those behind are being worked on."""
    flying: deque[Future] = deque()
    pool = ThreadPoolExecutor(AT_ONCE, "vidlatent-store")
    try:
        for item in items:
            flying.append(pool.submit(function, item))
            if len(flying) > 2 * AT_ONCE:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
