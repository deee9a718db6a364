"""What a record of a journal must be to be taken for a row: every value of its kind, and no path in a name.

A cache is a folder that many programs and disks have had their hands on. A record that is false is skipped,
whatever is wrong with it; `cache verify` says which one, and why.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from itertools import product
from operator import itemgetter

_NAME = re.compile(r"[0-9A-Za-z_.-]*")  # of a key or a shard, which become names of files
_LARGEST = 1 << 62
_NUMBERS = (int, float)
_ITEMS = {str, int, bool, type(None)}  # of a list


def check_fields(kind: type, record: Mapping) -> dict[str, object]:
    """The fields of a dataclass that a record has, each of the kind of its default; raises ValueError.

    Fields that a later version has added are left out. Lists become tuples.
    """
    return _take_plain(_Plain.of(kind), record) or _check_each(kind, record)


@dataclass(frozen=True)
class _Plain:
    """What a record looks like that this release wrote, so that all its fields are checked at once.

    Millions of records are read, and nearly all of them are like that.
    """

    names: tuple[str, ...]
    pick: Callable[[Mapping], tuple]  # the values of the fields; raises KeyError where one is missing
    types: Collection[tuple[type, ...]]
    numbers: Callable[[tuple], tuple]  # those of the values that are numbers
    lists: tuple[str, ...]

    @classmethod
    @cache
    def of(cls, kind: type) -> "_Plain":
        """What records of a dataclass look like: as JSON has no tuples, and None may be a text."""
        listed = _list_kinds(kind)
        names, wanted = tuple(name for name, _, _ in listed), [kind for _, kind, _ in listed]
        in_json = [{tuple: (list,), type(None): (type(None), str)}.get(kind, (kind,)) for kind in wanted]
        numbers = [number for number, kind in enumerate(wanted) if kind in _NUMBERS]
        lists = tuple(name for name, kind, _ in listed if kind is tuple)
        return cls(names, itemgetter(*names), set(product(*in_json)), itemgetter(*numbers), lists)


def _take_plain(plain: _Plain, record: Mapping) -> dict[str, object] | None:
    """The fields of a record that is as `plain` says; None where it must be looked at more closely."""
    try:
        values = plain.pick(record)
    except KeyError:
        return None
    if tuple(map(type, values)) not in plain.types:
        return None
    for number in plain.numbers(values):
        if not 0 <= number <= _LARGEST:  # nor is NaN
            return None
    found = dict(zip(plain.names, values, strict=True))
    for name in plain.lists:
        found[name] = _check_items(name, found[name])
    return found


def _check_each(kind: type, record: Mapping) -> dict[str, object]:
    """The same of any record, field by field."""
    found: dict[str, object] = {}
    for name, wanted, needed in _list_kinds(kind):
        if name in record:
            found[name] = _check(name, record[name], wanted)
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
