"""Facts about pictures as a file tells them: JSON from anywhere, checked before anything is made of it.

Everything here raises ValueError that names the fact; whoever knows the file's name adds it.
"""

import re
from collections.abc import Mapping
from fractions import Fraction

MOST_PX = 1 << 16  # of a side
MOST_TERM = (1 << 31) - 1  # of a fraction: what containers can say
MOST_SECONDS = 1 << 40
MOST_ENTRIES, MOST_CHARACTERS = 1 << 14, 1 << 20  # what a header has room for
_FRACTION = re.compile(r"-?\d{1,24}(/\d{1,24})?")


def integer(value: object, what: str, low: int, high: int) -> int:
    """`value` as an integer from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{what}: expected {low} to {high}, got {_brief(value)}")
    return value


def fraction(value: object, what: str) -> Fraction:
    """`value`, spelled "num/den" or a whole number, as a fraction."""
    text = (
        str(value)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 64
        else value
    )
    if not isinstance(text, str) or not _FRACTION.fullmatch(text) or re.search("/0+$", text):
        raise ValueError(f"{what}: expected a fraction such as 1/25, got {_brief(value)}")
    return Fraction(text)


def ratio(value: object, what: str) -> Fraction:
    """`value` as a fraction above 0 whose terms a container can say."""
    found = fraction(value, what)
    if not 0 < found.numerator <= MOST_TERM or found.denominator > MOST_TERM:
        raise ValueError(f"{what}: expected terms from 1 to {MOST_TERM}, got {_brief(value)}")
    return found


def seconds(value: object, what: str) -> Fraction:
    """`value` as a time in seconds."""
    found = fraction(value, what)
    if abs(found) > MOST_SECONDS:
        raise ValueError(f"{what}: expected less than {MOST_SECONDS} s, got {_brief(value)}")
    return found


def text(value: object, what: str) -> str:
    """`value` as a string of bounded length."""
    if not isinstance(value, str) or len(value) > MOST_CHARACTERS:
        raise ValueError(f"{what}: expected at most {MOST_CHARACTERS} characters, got {_brief(value)}")
    return value


def table(value: object, what: str) -> Mapping[str, object]:
    """`value` as an object of a bounded number of members."""
    if not isinstance(value, Mapping) or len(value) > MOST_ENTRIES:
        raise ValueError(f"{what}: expected an object, got {_brief(value)}")
    return value


def array(value: object, what: str) -> list[object]:
    """`value` as an array of bounded length."""
    if not isinstance(value, list | tuple) or len(value) > MOST_ENTRIES:
        raise ValueError(f"{what}: expected an array of at most {MOST_ENTRIES}, got {_brief(value)}")
    return list(value)


def member(facts: Mapping[str, object], name: str, what: str) -> object:
    """The member `name` of an object; raises where it is missing."""
    if name not in facts:
        raise ValueError(f"{what}: has no {name!r}")
    return facts[name]


def _brief(value: object) -> str:
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return "a huge number"
    shown = repr(value) if isinstance(value, str | int | float | bool | None) else type(value).__name__
    return shown if len(shown) <= 60 else f"{shown[:60]}…"
