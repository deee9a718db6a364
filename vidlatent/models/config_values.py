"""A config.json from anywhere: its values are bounded before a network is made of them.

What a family makes of its own members is its affair. Here is what holds for all: no number that would make a
network of terabytes, or of more layers than anybody waits for, and no error that is not in words.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from vidlatent.errors import BadWeights

MOST = 1 << 20  # of any number: thousands of channels are usual
MOST_LAYERS = 64  # of a count of layers or blocks, and of things in a list that are no numbers
MOST_NUMBERS = 4096  # in a list: one per latent channel is usual
LONGEST = 1000  # text, in characters
DEEPEST = 16
_COUNTS = re.compile("layer|block|depth")  # in the names of numbers that say how many there are
_WIDTHS = re.compile("channels|norm")  # which are numbers of another kind
FAULTS = (
    *(TypeError, ValueError, KeyError, IndexError, AttributeError),
    *(ArithmeticError, RuntimeError),  # torch's, and too deep a recursion
)
_HINT = "use the config.json that came with these weights"


def check_config(config: Mapping[str, object], where: object) -> None:
    """Raise BadWeights where any member is of a size that no network has; `where` is named."""
    fault = _find_fault(config, "", 0)
    if fault:
        raise BadWeights(f"{where}: {fault}", _HINT)


@contextmanager
def naming_config(where: object) -> Iterator[None]:
    """Turn what goes wrong while a network is made of a config into BadWeights that names it."""
    try:
        yield
    except FAULTS as e:
        reason = str(e).strip().splitlines()[0][:120] if str(e).strip() else ""
        raise BadWeights(f"{where}: describes no network ({type(e).__name__}: {reason})", _HINT) from e


def _find_fault(value: object, name: str, depth: int) -> str | None:
    """What is wrong with a member called `name`, or with anything in it."""
    if depth > DEEPEST:
        return f"{name}: nested too deeply"
    if isinstance(value, Mapping):
        return _first(_find_fault(item, str(key), depth + 1) for key, item in value.items())
    if isinstance(value, list | tuple):
        plain = all(isinstance(item, int | float) for item in value)
        most = MOST_NUMBERS if plain else MOST_LAYERS
        if len(value) > most:
            return f"{name[:40]}: expected at most {most} in a list, got {len(value)}"
        return _first(_find_fault(item, name, depth + 1) for item in value)
    if isinstance(value, str):
        return f"{name[:40]}: text of {len(value)} characters" if len(value) > LONGEST else None
    return _find_bad_number(value, name)


def _find_bad_number(value: object, name: str) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    counts = _COUNTS.search(name) and not _WIDTHS.search(name)
    most = MOST_LAYERS if counts and isinstance(value, int) else MOST
    if not abs(value) <= most:  # NaN is not, either
        return f"{name[:40]}: beyond what any network has (expected at most {most})"
    return None


def _first(faults: Iterator[str | None]) -> str | None:
    return next((fault for fault in faults if fault), None)
