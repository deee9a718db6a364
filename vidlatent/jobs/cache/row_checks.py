"""What a record of a journal must be to be taken for a row: every value of its kind, and no path in a name.

A cache is a folder that many programs and disks have had their hands on. A record that is false is skipped,
whatever is wrong with it; `cache verify` says which one, and why.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from functools import cache

_NAME = re.compile(r"[0-9A-Za-z_.-]*")  # of a key or a shard, which become names of files
_LARGEST = 1 << 62
_NUMBERS = (int, float)
_ITEMS = {str, int, bool, type(None)}  # of a list


def check_fields(kind: type, record: Mapping) -> dict[str, object]:
    """The fields of a dataclass that a record has, each of the kind of its default; raises ValueError.

    Fields that a later version has added are left out. Lists become tuples.
    """
    found: dict[str, object] = {}
    for name, wanted, needed in _list_kinds(kind):
        if name in record:
            value = record[name]  # millions of them are checked, and most are as plain as this
            plain = type(value) is wanted and (wanted not in _NUMBERS or 0 <= value <= _LARGEST)
            found[name] = value if plain else _check(name, value, wanted)
        elif needed:
            raise ValueError(f"{name} is missing")
    return found


@cache
def _list_kinds(kind: type) -> tuple[tuple[str, type, bool], ...]:
    """The fields of a dataclass: name, kind of the default (str where there is none), and whether needed."""
    defaults = {
        f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(kind)
    }
    return tuple((n, str if d is MISSING else type(d), d is MISSING) for n, d in defaults.items())


def _check(name: str, value: object, wanted: type) -> object:
    if wanted is type(None):
        return None if value is None else _check(name, value, str)
    if wanted is tuple:
        return _check_items(name, value)
    if wanted in _NUMBERS:
        return _check_number(name, value, wanted)
    if not isinstance(value, wanted):
        raise ValueError(f"{name}: expected {wanted.__name__}, got {value!r:.40}")
    return value


def _check_number(name: str, value: object, wanted: type) -> object:
    kinds = (int,) if wanted is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise ValueError(f"{name}: expected a number, got {value!r:.40}")
    if not 0 <= value <= _LARGEST:  # nor is NaN
        raise ValueError(f"{name}: expected a number from 0 on, got {value!r:.40}")
    return value


def _check_items(name: str, value: object) -> tuple:
    if value is None:
        return ()
    if type(value) not in (list, tuple) or not _ITEMS.issuperset(map(type, value)):
        raise ValueError(f"{name}: expected a list of words or numbers, got {value!r:.40}")
    return tuple(value)


def check_name(name: str, value: str) -> None:
    """Raise ValueError where a text would not be the name of a file in its folder."""
    if not _NAME.fullmatch(value) or value.startswith("."):
        raise ValueError(f"{name}: expected a name, got {value!r:.40}")


def check_one_of(name: str, value: str, known: Collection[str]) -> None:
    """Raise ValueError where a word is none of those that are known."""
    if value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r:.40}")
