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


class Journal:
    """What one writer appends to a folder of journals; its file is made with the first line.

    Lines that can be found out again need not be `durable`: a power cut may take them.
    """

    def __init__(self, folder: Path, durable: bool = True) -> None:
        self._folder, self._durable = folder, durable
        self._descriptor: int | None = None

    def append(self, *records: Mapping[str, object]) -> None:
        """Write records; once this returns they survive a kill −9, durable ones a power cut."""
        if self._descriptor is None:
            self._descriptor = _created(self._folder)
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


class Journals:
    """All journals of a folder, also those that others write: read to their ends, and again from there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, int] = {}  # bytes of each

    def fresh(self) -> Iterator[dict]:
        """Every whole line added since the last call, writer by writer; see `torn` for the others."""
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            with path.open("rb") as file:
                file.seek(self._read.get(path.name, 0))
                yield from (
                    record for line in self._whole(path, file) if (record := _parsed(line)) is not None
                )

    def _whole(self, path: Path, file: BinaryIO) -> Iterator[bytes]:
        """Lines that have an end; one that is being written has none yet."""
        while (line := file.readline()).endswith(b"\n"):
            self._read[path.name] = file.tell()
            yield line


def records(folder: Path) -> Iterator[dict]:
    """Every whole line of every journal in a folder."""
    return Journals(folder).fresh()


def torn(folder: Path) -> int:
    """Lines that a crash cut short."""
    lines = (line for path in folder.glob(f"*{SUFFIX}") for line in path.open("rb"))
    return sum(_parsed(line) is None for line in lines)


def _parsed(line: bytes) -> dict | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _created(folder: Path) -> int:
    """A new file that nobody else can have: its name has host, process and time, O_EXCL the last word."""
    folder.mkdir(parents=True, exist_ok=True)
    host = "".join(c for c in socket.gethostname() if c.isalnum())[:24] or "host"
    while True:
        name = f"{time.time_ns():019d}-{host}-{os.getpid()}{SUFFIX}"
        try:
            return os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        except FileExistsError:
            continue
