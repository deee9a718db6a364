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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

SUFFIX = ".jsonl"


class JournalWriter:
    """Appends lines to a file of its own in a folder of journals; the file is made with the first line.

    With `durable` False a power cut may take the last lines: for facts that can be found out again.
    """

    def __init__(self, folder: Path, durable: bool = True) -> None:
        self._folder, self._durable = folder, durable
        self._descriptor: int | None = None

    def append(self, *records: Mapping[str, object]) -> None:
        """Write records, a line each.

        Once this returns they survive a kill −9; if durable, a power cut as well.
        """
        if self._descriptor is None:
            self._descriptor = _create(self._folder)
        lines = "".join(json.dumps(record, sort_keys=True) + "\n" for record in records).encode()
        while lines:  # a signal or a full disk may cut a write short
            lines = lines[os.write(self._descriptor, lines) :]
        if self._durable:
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class JournalReader:
    """Reads all journals of a folder, those of other processes too.

    Each call goes on where the last one ended.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, int] = {}  # bytes read of each file

    def read_new(self) -> Iterator[dict]:
        """Every whole line that was added since the last call, file by file; lines cut short are left out."""
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            with path.open("rb") as file:
                file.seek(self._read.get(path.name, 0))
                yield from (
                    record
                    for line in self._read_whole_lines(path, file)
                    if (record := _parse(line)) is not None
                )

    def _read_whole_lines(self, path: Path, file: BinaryIO) -> Iterator[bytes]:
        """Lines that end with a newline; a line that is just being written has none yet."""
        while (line := file.readline()).endswith(b"\n"):
            self._read[path.name] = file.tell()
            yield line


def read_records(folder: Path) -> Iterator[dict]:
    """Every whole line of every journal in a folder, as it is now."""
    return JournalReader(folder).read_new()


def count_torn_lines(folder: Path) -> int:
    """How many lines in a folder of journals a crash has cut short."""
    lines = (line for path in folder.glob(f"*{SUFFIX}") for line in path.open("rb"))
    return sum(_parse(line) is None for line in lines)


def _parse(line: bytes) -> dict | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _create(folder: Path) -> int:
    """A new file of our own: its name has host, process and time, and O_EXCL refuses one that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    host = "".join(c for c in socket.gethostname() if c.isalnum())[:24] or "host"
    while True:
        name = f"{time.time_ns():019d}-{host}-{os.getpid()}{SUFFIX}"
        try:
            return os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        except FileExistsError:
            continue
