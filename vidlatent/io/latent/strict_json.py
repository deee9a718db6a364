"""Strict parsing of JSON that may be damaged or hostile: every value is checked for its type and bounds.

Everything here raises ValueError in words for the user; whoever knows the file's name adds it. `what` names
the value in those words.
"""

import json
import math
from collections.abc import Iterable, Mapping

DEEPEST = 64  # levels of objects and arrays


def dump(value: object) -> str:
    """The canonical text of a JSON value: ASCII, keys sorted, no spaces, no NaN."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def load(text: str, what: str) -> object:
    """Parse JSON without NaN, infinities or duplicate keys, and no more than DEEPEST levels deep."""
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite_float
        )
    except RecursionError:
        raise ValueError(f"{what}: nested too deeply") from None
    except ValueError as e:
        raise ValueError(f"{what}: not valid JSON ({e})") from e
    _refuse_depth(value, what)
    return value


def _refuse_depth(value: object, what: str) -> None:
    """Raise where a value is so deep that whoever walks through it runs out of stack."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
        if not level:
            return
    raise ValueError(f"{what}: nested too deeply")


def integer(value: object, what: str, low: int, high: int) -> int:
    """`value` as an integer in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{what}: expected an integer, got {brief(value)}")
    if not low <= value <= high:
        raise ValueError(f"{what}: expected {low} to {high}, got {brief(value)}")
    return value


def flag(value: object, what: str) -> bool:
    """`value` as true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{what}: expected true or false, got {brief(value)}")
    return value


def string(value: object, what: str, longest: int = 256) -> str:
    """`value` as a string of at most `longest` characters."""
    if not isinstance(value, str):
        raise ValueError(f"{what}: expected a string, got {brief(value)}")
    if len(value) > longest:
        raise ValueError(f"{what}: expected at most {longest} characters, got {len(value)}")
    return value


def one_of(value: object, what: str, choices: tuple[str, ...]) -> str:
    """`value` as one of a few words."""
    if value not in choices:
        raise ValueError(f"{what}: expected {' or '.join(choices)}, got {brief(value)}")
    return str(value)


def numbers(value: object, what: str, most: int = 4096) -> tuple[float, ...]:
    """`value` as 1 to `most` finite floats."""
    if not isinstance(value, list | tuple) or not 0 < len(value) <= most:
        raise ValueError(f"{what}: expected 1 to {most} numbers, got {brief(value)}")
    for number in value:
        if isinstance(number, bool) or not isinstance(number, int | float) or not _is_finite(number):
            raise ValueError(f"{what}: expected finite numbers, got {brief(number)}")
    return tuple(float(number) for number in value)


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond all floats
        return False


def table(value: object, what: str) -> dict[str, object]:
    """`value` as an object with any keys."""
    if not isinstance(value, dict):
        raise ValueError(f"{what}: expected an object, got {brief(value)}")
    return value


def record(value: object, what: str, keys: Iterable[str]) -> dict[str, object]:
    """`value` as an object with exactly these keys."""
    found = table(value, what)
    demand(found, what, keys := tuple(keys))
    unknown = sorted(set(found) - set(keys))
    if unknown:
        raise ValueError(f"{what}: unknown {brief(unknown[0])}")
    return found


def demand(found: Mapping[str, object], what: str, keys: Iterable[str]) -> None:
    """Raise where one of `keys` is missing in `found`."""
    for key in keys:
        if key not in found:
            raise ValueError(f"{what}: `{key}` is missing")


def brief(value: object) -> str:
    """A value as text that is short enough for an error message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{brief(key)} appears twice")
        found[key] = value
    return found


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is not a JSON number")


def _finite_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{brief(digits)} is out of range")
    return number
