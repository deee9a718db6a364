"""Facts of every kind as the values that JSON knows."""

from collections.abc import Callable, Mapping
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
