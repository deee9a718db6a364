"""Lines of JSON that survive kill −9 and many writers, also on a network disk.

Every writer appends to a file of its own, so nobody ever writes where another does: no lock is needed,
and none is trusted. A line is one `write`, and one `fsync` where it matters; a line cut short by a crash has
no newline, and is not read. SQLite would need working POSIX locks, which network disks often only pretend
to have.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from vidlatent.durable import make_folder, sync_folder
from vidlatent.files import is_at, naming_disk_errors, naming_read_errors, try_lock

SUFFIX = ".jsonl"


class JournalWriter:
    """Appends lines to a file of its own in a folder of journals; the file is made with the first line.

    With `durable` False a power cut may take the last lines: for facts that can be found out again. The file
    is locked while it is open, which tells those who fold journals into a snapshot that it may still grow.
    """

    def __init__(self, folder: Path, durable: bool = True) -> None:
        self._folder, self._durable = folder, durable
        self._open: tuple[Path, int] | None = None  # the file, and its descriptor

    def append(self, *records: Mapping[str, object]) -> None:
        """Write records, a line each.

        Once this returns they survive a kill −9; if durable, a power cut as well.
        """
        lines = spell_lines(records).encode()
        while not self._write(lines):
            self.close()  # where a disk knows no locks, the file may have been folded and put away meanwhile

    def _write(self, lines: bytes) -> bool:
        """Write lines at the end of the file; False where it is no longer in its place afterwards."""
        if self._open is None:
            self._open = _create(self._folder)
        path, descriptor = self._open
        try:
            with naming_disk_errors(path):
                while lines:  # a signal or a full disk may cut a write short
                    lines = lines[os.write(descriptor, lines) :]
                if self._durable:
                    os.fsync(descriptor)
                return is_at(descriptor, path)
        except BaseException:
            self.close()  # it may end in half a line, and what comes next must not be joined to that
            raise

    def flush(self) -> None:
        """Nothing: what `append` wrote is there."""

    def close(self) -> None:
        """Close the file, if there is one; a line that comes later begins a new one."""
        if self._open is not None:
            (_, descriptor), self._open = self._open, None
            with suppress(OSError):  # what had to be on disk is there by now
                os.close(descriptor)


class JournalReader:
    """Reads all journals of a folder, those of other processes too.

    Each call goes on where the last one ended. `read` says how many bytes of each file are known already.
    """

    def __init__(self, folder: Path, read: Mapping[str, int] = MappingProxyType({})) -> None:
        self._folder = folder
        self.read = dict(read)  # bytes read of each file

    def read_new(self) -> Iterator[dict]:
        """Every whole line that was added since the last call, file by file; what says nothing is skipped."""
        for path in list_journals(self._folder):
            with naming_read_errors(path), suppress(FileNotFoundError):  # folded, and put away in this moment
                yield from self._read_journal(path)

    def _read_journal(self, path: Path) -> Iterator[dict]:
        begin = self.read.get(path.name, 0)
        if begin and path.stat().st_size <= begin:
            return
        with path.open("rb") as file:
            file.seek(begin)
            for line in self._read_whole_lines(path, file, begin):
                if (record := _parse(line)) is not None:
                    yield record

    def _read_whole_lines(self, path: Path, file: BinaryIO, begin: int) -> Iterator[bytes]:
        """Lines that end with a newline; a line that is just being written has none yet."""
        while (line := file.readline()).endswith(b"\n"):
            begin += len(line)
            self.read[path.name] = begin
            yield line


def read_records(folder: Path) -> Iterator[dict]:
    """Every whole line of every journal in a folder, as it is now."""
    return JournalReader(folder).read_new()


@dataclass(frozen=True)
class WrongLine:
    """A line that nobody can use, and that is skipped by whoever reads the journal: which one, and why."""

    path: Path
    number: int
    why: str


def find_wrong_lines(folder: Path, parse: Callable[[dict], object]) -> Iterator[WrongLine]:
    """Every line of every journal that a crash has cut short, or of which `parse` makes nothing."""
    for path in list_journals(folder):
        with naming_read_errors(path), path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                why = _find_fault(line, parse)
                if why is not None:
                    yield WrongLine(path, number, why)


def count_torn_lines(folder: Path, parse: Callable[[dict], object] = dict) -> int:
    """How many lines of a folder of journals say nothing: cut short by a crash, or of no use to `parse`."""
    return sum(1 for _ in find_wrong_lines(folder, parse))


def _find_fault(line: bytes, parse: Callable[[dict], object]) -> str | None:
    if not line.endswith(b"\n"):
        return "cut short"
    record = _parse(line)
    if record is None:
        return "no JSON object"
    try:
        parse(record)
    except ValueError as e:
        return str(e)
    return None


def list_journals(folder: Path) -> list[Path]:
    """The journals in a folder, in the order of their names."""
    return [path for path in sorted(folder.glob(f"*{SUFFIX}")) if path.is_file()]


def _parse(line: bytes) -> dict | None:
    try:
        record = json.loads(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def name_writer() -> str:
    """A name for the journal of a writer that begins now: by time, then by host and process."""
    host = "".join(c for c in socket.gethostname() if c.isalnum())[:24] or "host"
    return f"{time.time_ns():019d}-{host}-{os.getpid()}"


def spell_lines(records: Iterable[Mapping[str, object]]) -> str:
    """Records as a journal has them, a line each."""
    return "".join(json.dumps(record, sort_keys=True) + "\n" for record in records)


def _create(folder: Path) -> tuple[Path, int]:
    """A new file of our own: its name has host, process and time, and O_EXCL refuses one that is there."""
    with naming_disk_errors(folder):
        make_folder(folder)
    while True:
        path = folder / f"{name_writer()}{SUFFIX}"
        with naming_disk_errors(path), suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
            try:
                try_lock(descriptor)
                sync_folder(folder)
            except BaseException:
                os.close(descriptor)
                raise
            return path, descriptor
