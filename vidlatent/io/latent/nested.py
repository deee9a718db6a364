"""The objects inside a header (`grid`, `plan`, `source`, `pad`): their members, and how they may grow.

Later versions of the format add members. One that is not known here is kept and ignored, unless the file
says that it requires it; one that is missing has its default. Everything here raises ValueError; whoever
knows the file's name adds it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass

from vidlatent.grid import Grid
from vidlatent.io.latent import strict_json as js
from vidlatent.windows import Plan, Tiling, TimeRule

# What version 1.0 wrote, and what is always written. Members that these classes gained later are written
# where they are not at their default; the file then requires them.
FIRST_MEMBERS = {
    Grid: {"time", "space"},
    Plan: {"encode_time", "decode_time", "encode_tiles", "decode_tiles"},
    TimeRule: {"stride", "overlap"},
    Tiling: {"size", "step", "blend", "keep", "slivers"},
}
# Of a field that its class gained later and that readers may ignore: it is written where it says something.
LATER = {"later": True}
_PLACES = {
    "grid": Grid,
    "plan": Plan,
    "plan.encode_time": TimeRule,
    "plan.decode_time": TimeRule,
    "plan.encode_tiles": Tiling,
    "plan.decode_tiles": Tiling,
    "plan.encode_columns": Tiling,
    "plan.decode_columns": Tiling,
}
_MOST_REQUIRED, _LONGEST_NAME = 64, 128


class RequiresMore(ValueError):
    """A file that must not be read without knowing a fact that is not known here."""


def read_members(kind: type, value: object, what: str) -> dict[str, object]:
    """The members of the JSON object `value` that the dataclass `kind` has; raises where one is missing."""
    found = js.table(value, what)
    js.demand(found, what, (f.name for f in fields(kind) if f.default is MISSING))
    return {f.name: found[f.name] for f in fields(kind) if f.name in found}


def spell_members(fact: object) -> dict[str, object]:
    """A fact's members as JSON values: all of version 1.0, and later ones that are not at their default."""
    written = [f.name for f in fields(fact) if _is_first(fact, f.name) or getattr(fact, f.name) != f.default]
    values = {name: getattr(fact, name) for name in written}
    return {name: spell_members(value) if is_dataclass(value) else value for name, value in values.items()}


def list_required(fact: object, place: str) -> Iterator[str]:
    """Names, such as `plan.encode_time.x`, of a fact's members that a reader of version 1.0 does not know."""
    for name in spell_members(fact):
        member = getattr(fact, name)
        if is_dataclass(member):
            yield from list_required(member, f"{place}.{name}")
        elif not _is_first(fact, name):
            yield f"{place}.{name}"


def check_required(value: object, keys: Mapping[str, object]) -> None:
    """Raise RequiresMore where the list `plan.requires` of a file names what is not known here.

    `keys` are the known ones of the header itself.
    """
    if not isinstance(value, list) or len(value) > _MOST_REQUIRED:
        raise ValueError(f"plan.requires: expected at most {_MOST_REQUIRED} names, got {js.brief(value)}")
    known = {f"{place}.{f.name}" for place, kind in _PLACES.items() for f in fields(kind)}
    for name in value:
        if js.string(name, "plan.requires", _LONGEST_NAME) not in known | keys.keys():
            raise RequiresMore(f"requires {js.brief(name)}, which this vidlatent does not know")


def find_unknown(found: Mapping[str, object], known: Mapping[str, object]) -> dict[str, object]:
    """The members of `found` that `known` lacks, each inside the objects that it was in."""
    more = {name: value for name, value in found.items() if name not in known}
    inner = {name: find_unknown(*pair) for name, pair in _objects_of_both(found, known)}
    return more | {name: members for name, members in inner.items() if members}


def merge_members(known: Mapping[str, object], more: Mapping[str, object]) -> dict[str, object]:
    """`known` together with what `find_unknown` gave; members of objects that `known` lacks are lost."""
    inner = {name: merge_members(mine, theirs) for name, (theirs, mine) in _objects_of_both(more, known)}
    return {**more, **known, **inner}


def _objects_of_both(first: Mapping, second: Mapping) -> Iterator[tuple[str, tuple[Mapping, Mapping]]]:
    for name in first.keys() & second.keys():
        if isinstance(first[name], Mapping) and isinstance(second[name], Mapping):
            yield name, (first[name], second[name])


def _is_first(fact: object, name: str) -> bool:
    later = {f.name for f in fields(fact) if f.metadata == LATER}
    return name in FIRST_MEMBERS.get(type(fact), (name,)) and name not in later
