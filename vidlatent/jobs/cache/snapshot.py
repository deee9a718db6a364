"""Snapshots: what the journals of a folder said at one time, as one sorted file that is searched, not loaded.

A snapshot is a file of SQLite that is never changed once it has its name, so it needs no lock, is read by any
number of processes, also from a network disk, and answers in a few reads however long it is. SQLite and not
parquet, because Python brings it along, so there is one implementation that everybody has, and because what
a run asks for is one row by its name: in parquet that is a search through a whole row group. It is read by
calls, not through a memory map: a map of a file that a network disk loses ends the process.

A line is a JSON list of the values of one record, in the order of the `fields` that the snapshot names. So a
later release may add fields, and those that this one does not know are carried along.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b, sha256
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import quote_from_bytes

from vidlatent.errors import BadInput, OutOfResources
from vidlatent.jobs.cache.journal import list_journals

T = TypeVar("T")
PREFIX, SUFFIX = "snapshot-", ".sqlite"
FORMAT, VERSION = "vidlatent-snapshot", 1
CACHE_KIB = 16 << 10  # of pages that a reader keeps
_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)  # what was read is a tree
_FAULTS = (sqlite3.Error, ValueError, KeyError, TypeError)  # of a file that is no snapshot
_NO_DISK = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_NOMEM")  # how names of its faults begin


_BY_NAME, _BY_KEY = (
    f"SELECT line, done FROM lines WHERE {column} = ? ORDER BY id" for column in ("name", "key")
)

_ALL_BY_NAME = (
    "SELECT line, done, (SELECT count(*) FROM lines AS other WHERE other.key = lines.key)"
    " FROM lines ORDER BY id"
)


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What a folder of journals holds: how a record is read, what it is about, and which of two counts.

    `parse` raises ValueError where a record is none. A record has a `name`, and may have a `key`, "" where it
    has none. Of all with one name, and of all with one key, the one of the highest `order` counts, and of
    equals the last one; of a key also the last one that is `packed` is kept, and the first name that was
    `done` with it.
    """

    fields: tuple[str, ...]
    parse: Callable[[Mapping], T]
    pack: Callable[[T], list]  # its values, in the order of the fields
    unpack: Callable[[list], T]
    name: Callable[[T], str]
    key: Callable[[T], str] = lambda _: ""
    order: Callable[[T], tuple] = lambda _: ()
    packed: Callable[[T], bool] = lambda _: False
    done: Callable[[T], bool] = lambda _: False

    @cached_property
    def field_set(self) -> frozenset[str]:
        """The fields, to ask which of a record's are among them."""
        return frozenset(self.fields)


class Snapshot(Generic[T]):
    """An open snapshot. Without a path it is that of a folder in which nothing was folded yet, and empty."""

    def __init__(self, kind: Kind[T], path: Path | None = None) -> None:
        self.path, self._kind = path, kind
        self.number = 0 if path is None else number_of(path)
        self.folded: Mapping[str, int] = {}  # bytes of each journal that are in here
        self.count, self.digest = 0, ""
        self._connection = None if path is None else self._open(path)

    def _open(self, path: Path) -> sqlite3.Connection:
        with naming_damage(path):
            connection = connect(path, "mode=ro&immutable=1")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            told = dict(connection.execute("SELECT name, value FROM facts"))
            if (told.get("format"), told.get("version")) != (FORMAT, str(VERSION)):
                raise BadInput(
                    f"{path}: a snapshot of version {told.get('version')}, this vidlatent reads {VERSION}",
                    "read the cache with the release that made it, or a later one",
                )
            self.folded, self.count = json.loads(told["folded"]), int(told["count"])
            self.digest, self._fields = told["sha256"], tuple(json.loads(told["fields"]))
        return connection

    def find_name(self, name: str) -> list[T]:
        """What is known of a name: one record for each key that it had."""
        its_name = self._kind.name
        return [value for value, _ in self._find(_BY_NAME, hash_name(name)) if its_name(value) == name]

    def find_key(self, key: str) -> list[tuple[T, bool]]:
        """The records of a key that are of account, and whether the name of each was done with it."""
        its_key = self._kind.key
        return [found for found in self._find(_BY_KEY, number_key(key)) if its_key(found[0]) == key]

    def _find(self, query: str, number: int) -> list[tuple[T, bool]]:
        """A run asks this for every clip, so it is written to take few steps."""
        if self._connection is None:
            return []
        try:
            found = self._connection.execute(query, (number,)).fetchall()
            return [(self._read(line), bool(done)) for line, done in found]
        except _FAULTS as e:
            raise _blame(self.path, e) from e

    def by_name(self) -> Iterator[tuple[str, T, list[tuple[T, bool]] | None]]:
        """Every record and its name, in the order of names, and what `find_key` says of its key.

        None where more records may have that key: then it must be searched for.
        """
        if self._connection is None:
            return
        with naming_damage(self.path):
            for line, done, sharing in self._connection.execute(_ALL_BY_NAME):
                value = self._read(line)
                yield self._kind.name(value), value, [(value, bool(done))] if sharing == 1 else None

    def lines(self) -> Iterator[tuple[T, bool, str]]:
        """All records by name, whether the name was done with the key, and the line of today's fields."""
        if self._connection is None:
            return
        same = self._fields == self._kind.fields
        with naming_damage(self.path):
            for line, done in self._connection.execute("SELECT line, done FROM lines ORDER BY id"):
                value = self._read(line)
                yield value, bool(done), line if same else self._write_anew(line, value)

    def _write_anew(self, line: str, value: T) -> str:
        values = json.loads(line)
        more = values[len(self._fields)] if len(values) > len(self._fields) else {}
        return write_line(dict(zip(self._fields, values, strict=False)) | more, value, self._kind)

    def by_key(self) -> Iterator[tuple[str, list[tuple[T, bool]]]]:
        """Every key, in order, and what `find_key` says of it."""
        if self._connection is None:
            return
        query, its_key = (
            "SELECT key, line, done FROM lines WHERE key IS NOT NULL ORDER BY key, id",
            self._kind.key,
        )
        with naming_damage(self.path):
            for _, same in groupby(self._connection.execute(query), itemgetter(0)):
                found = [(self._read(line), bool(done)) for _, line, done in same]
                for key in sorted({its_key(value) for value, _ in found}):
                    yield key, [one for one in found if its_key(one[0]) == key]

    def _read(self, line: str) -> T:
        return read_line(line, self._kind, self._fields)

    def check(self) -> None:
        """Read all of it; raises BadInput where it is not what was written."""
        if self._connection is None:
            return
        with naming_damage(self.path):
            (answer,) = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
            if answer != "ok":
                raise sqlite3.DatabaseError(answer)
            digest, count = sha256(), 0
            for (line,) in self._connection.execute("SELECT line FROM lines ORDER BY id"):
                digest.update(line.encode())
                count += 1
            if (digest.hexdigest(), count) != (self.digest, self.count):
                raise sqlite3.DatabaseError(f"{count} lines that are not the {self.count} that were written")


def read_line(line: str, kind: Kind[T], fields: tuple[str, ...]) -> T:
    """The record of a line that was written with these fields."""
    values = json.loads(line)
    if fields == kind.fields and len(values) == len(fields):
        return kind.unpack(values)
    more = values[len(fields)] if len(values) > len(fields) else {}
    return kind.parse(dict(zip(fields, values, strict=False)) | more)


def write_line(record: Mapping, value: T, kind: Kind[T]) -> str:
    """The line of a record; what it has besides the fields that are known follows them, in an object."""
    values = kind.pack(value)
    known = kind.field_set.issuperset(record)
    unknown = {} if known else {name: record[name] for name in record.keys() - kind.field_set}
    return _ENCODER.encode([*values, unknown] if unknown else values)


def open_snapshot(folder: Path, kind: Kind[T]) -> Snapshot[T]:
    """The newest snapshot of a folder of journals; an empty one where there is none."""
    number = find_newest(folder)
    return Snapshot(kind, path_of(folder, number) if number else None)


def describe_state(folder: Path, kind: Kind) -> str:
    """A word for what a folder of journals says now: another one once a line was added."""
    snapshot = open_snapshot(folder, kind)
    sizes = ((path.name, path.stat().st_size) for path in list_journals(folder))
    younger = [[name, size] for name, size in sizes if size > snapshot.folded.get(name, 0)]
    told = json.dumps([snapshot.number, snapshot.digest, younger])
    return sha256(told.encode()).hexdigest()[:16]


def find_newest(folder: Path) -> int:
    """The number of the newest snapshot of a folder of journals; 0 where there is none."""
    return max(map(number_of, list_snapshots(folder)), default=0)


def list_snapshots(folder: Path) -> list[Path]:
    """The snapshots in a folder, the newest last."""
    return sorted(
        path for path in folder.glob(f"{PREFIX}*{SUFFIX}") if path == path_of(folder, number_of(path))
    )


def number_of(path: Path) -> int:
    """The number of a snapshot; 0 where the name is not that of one."""
    text = path.name.removeprefix(PREFIX).removesuffix(SUFFIX)
    return int(text) if text.isdecimal() else 0


def path_of(folder: Path, number: int) -> Path:
    """Where a snapshot of this number lies, or will lie."""
    return folder / f"{PREFIX}{number:06d}{SUFFIX}"


def hash_name(name: str) -> int:
    """A number by which a name is searched for; few names share one."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def number_key(key: str) -> int:
    """A number by which a key is searched for, in the order of keys; few share one. Keys are of ASCII."""
    return int.from_bytes(key.encode()[:8].ljust(8, b"\0"), "big")


def connect(path: Path, how: str) -> sqlite3.Connection:
    """Open a file of SQLite, without its locks: nobody else writes what we write, and nobody what we read.

    A manifest may be opened in one thread, and asked in another, one at a time.
    """
    place = quote_from_bytes(bytes(path.absolute()))
    address = f"file:{place}?{how}&nolock=1"
    return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)


@contextmanager
def naming_damage(path: Path | None) -> Iterator[None]:
    """Turn what SQLite says of a snapshot that cannot be read into errors that name it."""
    try:
        yield
    except _FAULTS as e:
        raise _blame(path, e) from e


def _blame(path: Path | None, fault: Exception) -> BadInput | OutOfResources:
    what = f"{path}: cannot be read ({fault})"
    if getattr(fault, "sqlite_errorname", "").startswith(_NO_DISK):
        return OutOfResources(what, "the disk, its network or the system fails: run again")
    return BadInput(
        f"{path}: damaged ({fault})",
        f"remove it, and move the journals of {path.parent / 'folded'} back into {path.parent}",  # type: ignore
    )
