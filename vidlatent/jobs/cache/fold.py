"""Folds journals into a snapshot, and puts them away; see snapshot.py.

The order is what makes a kill harmless. A new snapshot is written beside its name, read again and compared,
flushed, and then renamed: from then on readers take it, and of the journals only what is younger. After that
journals that are in it to the last byte, and that nobody writes any more, are moved into the folder `folded`.
Killed before the rename, the folder is as it was; killed after it, the next folding moves the rest. A journal
with a torn end stays where it is, so that `cache verify` can name that line.
"""

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Generic

from vidlatent.durable import make_folder, sync_folder
from vidlatent.errors import OutOfResources
from vidlatent.files import Replacement, naming_disk_errors, naming_read_errors, try_lock
from vidlatent.jobs.cache.journal import JournalReader, list_journals
from vidlatent.jobs.cache.snapshot import (
    FORMAT,
    VERSION,
    Kind,
    Snapshot,
    T,
    connect,
    hash_name,
    number_key,
    open_snapshot,
    path_of,
    read_line,
    write_line,
)
from vidlatent.jobs.cache.sorting import Line, LineSorter

FOLDED = "folded"  # the folder of journals that were put away
_CACHE_KIB = 64 << 10  # of pages while a snapshot is written
_LINES = (
    "CREATE TABLE lines (id INTEGER PRIMARY KEY, name INTEGER, key INTEGER, done INTEGER, line TEXT);"
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT)"
)
_INSERT = "INSERT INTO lines (name, key, done, line) VALUES (?, ?, ?, ?)"
_SHARED = "SELECT key FROM lines WHERE key > ? GROUP BY key HAVING count(*) > 1 ORDER BY key LIMIT 1000"


@dataclass(frozen=True)
class Folded:
    """What a folding came to: the snapshot, its records, how many lines were added, and journals put away."""

    path: Path
    records: int
    added: int
    journals: int


def fold(folder: Path, kind: Kind[T]) -> Folded | None:
    """Fold the journals of a folder into its next snapshot; None where nothing is new.

    The caller sees to it that no other process does the same: see compact.py. Others may read and write.
    """
    old = open_snapshot(folder, kind)
    if not any(_has_grown(path, old.folded.get(path.name, 0)) for path in list_journals(folder)):
        put_away(folder, old.folded)
        return None
    written = Replacement(path_of(folder, old.number + 1))
    try:
        with naming_no_room(written.path):
            added = SnapshotWriter(written.partial, kind).write(folder, old)
        new = Snapshot(kind, written.partial)
        new.check()
        written.commit()
    except BaseException:
        written.discard()
        raise
    return Folded(written.path, new.count, added, put_away(folder, new.folded))


def count_unfolded_bytes(folder: Path, snapshot: Snapshot) -> int:
    """The bytes of journals that are not in the snapshot: what every process reads when it starts."""
    left = (_size(path) - snapshot.folded.get(path.name, 0) for path in list_journals(folder))
    return sum(max(0, size) for size in left)


def put_away(folder: Path, folded: Mapping[str, int]) -> int:
    """Move the journals that are folded to their last byte, and that nobody writes, into `folded`."""
    found = (path for path in list_journals(folder) if path.name in folded)
    count = sum(_move(path, folder / FOLDED, folded[path.name]) for path in found)
    if count:
        with naming_disk_errors(folder):
            sync_folder(folder / FOLDED)
            sync_folder(folder)
    return count


def _move(path: Path, away: Path, nbytes: int) -> bool:
    """Move one journal, unless its writer is at work or it has grown."""
    gone = (FileNotFoundError, PermissionError)  # or somebody else's, who alone may lock it
    with naming_disk_errors(path), suppress(*gone), path.open("rb+") as file:
        if not try_lock(file.fileno()) or os.fstat(file.fileno()).st_size != nbytes:
            return False
        make_folder(away)
        os.replace(path, away / path.name)
        if os.fstat(file.fileno()).st_size == nbytes:
            return True
        os.replace(away / path.name, path)  # the disk has no locks, and somebody wrote in this moment
    return False


class SnapshotWriter(Generic[T]):
    """Writes one snapshot, in memory that does not grow with it: new lines are sorted on disk."""

    def __init__(self, path: Path, kind: Kind[T]) -> None:
        self._path, self._kind = path, kind
        self._digest, self._count = sha256(), 0

    def write(self, folder: Path, old: Snapshot[T]) -> int:
        """Write what the old snapshot and newer lines of journals say; how many of those there were."""
        reader = JournalReader(folder, old.folded)
        with LineSorter(folder) as new, closing(_create(self._path)) as target:
            added = new.add(self._parse(reader))
            with _transaction(target):
                self._write_lines(target, new.merge(self._read_old(old)))
                self._thin_out(target)
                self._write_facts(target, reader.read, {path.name for path in list_journals(folder)})
        return added

    def _parse(self, reader: JournalReader) -> Iterator[Line]:
        """Every new line of the journals that is a record."""
        kind = self._kind
        for record in reader.read_new():
            with suppress(ValueError):  # `cache verify` names what is no record
                value = kind.parse(record)
                yield kind.name(value), kind.key(value), kind.done(value), write_line(record, value, kind)

    def _read_old(self, old: Snapshot[T]) -> Iterator[Line]:
        name, key = self._kind.name, self._kind.key
        return ((name(value), key(value), done, line) for value, done, line in old.lines())

    def _write_lines(self, target: sqlite3.Connection, lines: Iterator[Line]) -> None:
        kept = (line for _, same in groupby(lines, itemgetter(0)) for line in self._keep(list(same)))
        target.executemany(_INSERT, map(self._note, kept))
        target.execute("CREATE INDEX by_name ON lines (name)")
        target.execute("CREATE INDEX by_key ON lines (key) WHERE key IS NOT NULL")

    def _note(self, line: Line) -> tuple[int, int | None, bool, str]:
        name, key, done, text = line
        self._digest.update(text.encode())
        self._count += 1
        return hash_name(name), number_key(key) if key else None, done, text

    def _keep(self, lines: list[Line]) -> list[Line]:
        """Of the lines of one name, for each key: the one that counts, and the last that is packed."""
        if len(lines) == 1:
            return lines
        kept: list[Line] = []
        for key in dict.fromkeys(line[1] for line in lines):
            same = [line for line in lines if line[1] == key]
            done = any(line[2] for line in same)
            kept += [(*same[n][:2], done, same[n][3]) for n in self._choose([line[3] for line in same])]
        return kept

    def _choose(self, lines: list[str]) -> list[int]:
        """Which of these lines count: the last by order, and the last that is packed."""
        values = [read_line(line, self._kind, self._kind.fields) for line in lines]
        order = sorted(
            range(len(values)), key=lambda n: self._kind.order(values[n])
        )  # equals keep their order
        return sorted({order[-1], *[n for n in order if self._kind.packed(values[n])][-1:]})

    def _thin_out(self, target: sqlite3.Connection) -> None:
        """Of lines that share a key let only those be found by it that say something of the key itself.

        These are the one that counts, the last that is packed, and the first name that was done with it.
        """
        number = -1
        while shared := target.execute(_SHARED, (number,)).fetchall():
            for (number,) in shared:
                hidden = [(line,) for line in self._list_hidden(target, number)]
                target.executemany("UPDATE lines SET key = NULL WHERE id = ?", hidden)

    def _list_hidden(self, target: sqlite3.Connection, number: int) -> Iterator[int]:
        """The lines with this number of a key that say nothing of the key itself."""
        found = target.execute(
            "SELECT id, done, line FROM lines WHERE key = ? ORDER BY id", (number,)
        ).fetchall()
        keys = [self._kind.key(read_line(line, self._kind, self._kind.fields)) for _, _, line in found]
        for key in set(keys):
            same = [row for row, its in zip(found, keys, strict=True) if its == key]
            of_account = {same[n][0] for n in self._choose([line for _, _, line in same])}
            of_account |= set([row for row, done, _ in same if done][:1])
            yield from (row for row, _, _ in same if row not in of_account)

    def _write_facts(self, target: sqlite3.Connection, read: Mapping[str, int], names: set[str]) -> None:
        facts = {
            "format": FORMAT,
            "version": str(VERSION),
            "fields": json.dumps(self._kind.fields),
            "folded": json.dumps({name: nbytes for name, nbytes in read.items() if name in names}),
            "count": str(self._count),
            "sha256": self._digest.hexdigest(),
        }
        target.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())


def _create(path: Path) -> sqlite3.Connection:
    """An empty snapshot. It is flushed as a whole, once it is complete."""
    connection = connect(path, "mode=rw")
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.executescript(_LINES)
    return connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    yield
    connection.execute("COMMIT")


def _has_grown(path: Path, nbytes: int) -> bool:
    """Whether a whole line follows after so many bytes."""
    with naming_read_errors(path), path.open("rb") as file:
        file.seek(nbytes)
        return file.readline().endswith(b"\n")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # put away in this moment
        return 0


@contextmanager
def naming_no_room(path: Path) -> Iterator[None]:
    """Turn what SQLite says of a disk that takes no more into errors that name the snapshot."""
    try:
        yield
    except sqlite3.OperationalError as e:
        raise OutOfResources(
            f"{path}: cannot be written ({e})",
            "the folder needs as much room again as its journals take, and TMPDIR a twentieth of it",
        ) from e
