"""Times, rates and amounts of memory as Python callers give them: 29.97, "30000/1001", "4G".

Each error names the parameter that was wrong.
"""

import re
from fractions import Fraction

from vidlatent.errors import UsageError, parameter

Number = (
    Fraction | float | str
)  # what a fraction can be made of; a float counts as it is written: 29.97 is 2997/100

_NAMES = {
    "start": parameter("start"),
    "end": parameter("end"),
    "fps": parameter("fps"),
    "max_memory": parameter("max_memory"),
}


def to_seconds(value: Number | None, name: str) -> Fraction | None:
    """Seconds as a fraction; None stays None."""
    if value is None:
        return None
    if (seconds := _to_fraction(value)) is None:
        raise UsageError(f"{_NAMES[name]} {value}: not a time in seconds", "give a number such as 12.5")
    return seconds


def to_rate(value: Number | None, name: str = "fps") -> Fraction | None:
    """Frames per second as a fraction above 0; None stays None."""
    if value is None:
        return None
    rate = _to_fraction(value)
    if rate is None or rate <= 0:
        raise UsageError(
            f"{_NAMES[name]} {value}: not a frame rate", "give a number above 0, such as 24 or 30000/1001"
        )
    return rate


def to_bytes(value: int | str | None, name: str = "max_memory") -> int | None:
    """Bytes from a number of bytes, or from text such as "4G" or "512M"; None stays None."""
    if value is None:
        return None
    if (amount := read_amount(str(value))) is None:
        raise UsageError(
            f"{_NAMES[name]} {value}: not an amount of memory", 'give "4G", "512M", or a number of bytes'
        )
    return amount[0]


def read_amount(text: str) -> tuple[int, str] | None:
    """Bytes of a text such as "4G", and the unit that it names, if any; None where it says no amount."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text, re.IGNORECASE)
    if not found or not float(found[1]):
        return None
    unit = found[2].upper()
    return int(float(found[1]) * 1024 ** " KMGT".index(unit or " ")), unit


def _to_fraction(value: object) -> Fraction | None:
    """What a number or its text says, exactly; None where it is no finite number."""
    if isinstance(value, bool):
        return None
    try:
        return value if isinstance(value, Fraction) else Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        return None
