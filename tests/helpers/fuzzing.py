"""Bad files thrown at a parser: it may take them, or refuse them in words, and nothing else, and soon."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from helpers.parsers import Parser
from vidlatent.errors import VidlatentError

SLOW_S = 10.0  # more than any of these files takes here, and far less than a person waits
LONGEST_LINE = 2000  # of an error


class TooSlow(Exception):
    """A parser that did not end."""


def throw(parser: Parser, number: int) -> str:
    """Use the parser on bad file `number`; "taken" or "refused". Raises what else became of it.

    The file stands in the place of a good one, which is put back.
    """
    rng = Random(f"{parser.name} {number}")
    seed = rng.choice(parser.seeds)
    good = seed.read_bytes()
    seed.write_bytes(parser.mutate(good, rng))
    try:
        with in_time():
            parser.use(seed)
    except VidlatentError as e:
        assert "\n" not in e.what and len(e.what) < LONGEST_LINE, f"no line: {e.what[:300]!r}"
        return "refused"
    finally:
        seed.write_bytes(good)
    return "taken"


@contextmanager
def in_time() -> Iterator[None]:
    """Raise TooSlow in this thread, which must be the main one, after SLOW_S."""

    def stop(*_: object) -> None:
        raise TooSlow(f"no answer in {SLOW_S:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SLOW_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def bad_file(parser: Parser, number: int) -> tuple[Path, bytes]:
    """The seed of bad file `number`, and the bytes that stood in its place."""
    rng = Random(f"{parser.name} {number}")
    seed = rng.choice(parser.seeds)
    return seed, parser.mutate(seed.read_bytes(), rng)
