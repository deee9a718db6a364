"""Facts of every kind as the values that JSON knows."""

import math
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import date, time
from fractions import Fraction


def spell_fraction(value: object) -> object:
    """A fraction as "numerator/denominator"; anything else as it is."""
    return f"{value.numerator}/{value.denominator}" if isinstance(value, Fraction) else value


def to_json_values(value: object, convert: Callable[[object], object] = spell_fraction) -> object:
    """A value with mappings as dicts, and lists and tuples as lists, all the way down.

    Every value goes through `convert` first, which turns those that JSON does not know into some it knows.
    """
    value = convert(value)
    if isinstance(value, Mapping):
        return {str(name): to_json_values(item, convert) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_values(item, convert) for item in value]
    return value


def to_plain_json(value: object) -> object:
    """Any value of a table as one that JSON holds and gives back: for facts that go into a manifest.

    NaN and infinity become null, dates and times ISO 8601, bytes text (base64 where they are not UTF-8), and
    what JSON does not know else becomes its text.
    """
    return to_json_values(value, _make_plain)


def _make_plain(value: object) -> object:
    if value is None or isinstance(value, str | bool | int | Mapping | list | tuple):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return b64encode(value).decode()
    return value.isoformat() if isinstance(value, date | time) else str(value)
