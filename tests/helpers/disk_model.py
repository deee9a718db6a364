"""A disk that forgets: what may be left of a folder when the power fails after some call of a process.

Bytes are kept once their file was flushed, names once their folder was. What was not flushed may be there or
not, each write and each name by itself: later ones without earlier ones, too.
"""

import os
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from helpers.disk_calls import Call


@dataclass
class File:
    """Bytes: those that are flushed, those that a process sees, and the writes that make the difference."""

    kept: bytes = b""
    now: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # None: cut off there

    def write(self, at: int, data: bytes | None) -> None:
        """Write bytes at an offset, or cut the file there."""
        _apply(self.now, at, data)
        self.pending.append((at, data))

    def flush(self) -> None:
        """Keep what a process sees."""
        self.kept, self.pending = bytes(self.now), []

    def survive(self, chance: random.Random | None) -> bytes:
        """What is left: what was flushed, and of later writes those that chance keeps."""
        left = bytearray(self.kept)
        for at, data in self.pending:
            if chance is not None and chance.random() < 0.5:
                _apply(left, at, data)
        return bytes(left)


def _apply(content: bytearray, at: int, data: bytes | None) -> None:
    if len(content) < at:
        content.extend(bytes(at - len(content)))
    if data is None:
        del content[at:]
    else:
        content[at : at + len(data)] = data


@dataclass
class Folder:
    """Names: those that are flushed, those that a process sees, and the changes that make the difference."""

    kept: dict = field(default_factory=dict)
    now: dict = field(default_factory=dict)
    pending: list[dict] = field(default_factory=list)  # changes of names; None: it goes

    def change(self, names: "dict[str, File | Folder | None]") -> None:
        """Change names, all at once."""
        _rename(self.now, names)
        self.pending.append(names)

    def flush(self) -> None:
        """Keep what a process sees."""
        self.kept, self.pending = dict(self.now), []

    def survive(self, chance: random.Random | None) -> dict:
        """What is left: what was flushed, and of later changes those that chance keeps."""
        left = dict(self.kept)
        for names in self.pending:
            if chance is not None and chance.random() < 0.5:
                _rename(left, names)
        return left


def _rename(names: dict, changes: dict) -> None:
    for name, what in changes.items():
        if what is None:
            names.pop(name, None)
        else:
            names[name] = what


class Disk:
    """The disk of one folder, as it is after each of the calls that `do` is given."""

    def __init__(self, root: Path, beginning: Path) -> None:
        self._root, self.top = root, _load(beginning)
        self._files: dict[int, File | Folder] = {}

    def _find(self, path: str) -> "File | Folder | None":
        place: File | Folder | None = self.top
        for part in Path(path).relative_to(self._root).parts:
            place = place.now.get(part) if isinstance(place, Folder) else None
        return place

    def _above(self, path: str) -> tuple[Folder, str]:
        return self._find(str(Path(path).parent)), Path(path).name  # type: ignore[return-value]

    def do(self, call: Call) -> None:
        """Take note of a call that succeeded."""
        if call.result >= 0:
            getattr(self, f"_do_{call.kind}")(call)

    def _do_open(self, call: Call) -> None:
        if call.at & os.O_TMPFILE & ~os.O_DIRECTORY:  # which has no name, and is not seen again
            return
        found = self._find(call.path)
        if found is None:
            folder, name = self._above(call.path)
            found = File()
            folder.change({name: found})
        if call.at & os.O_TRUNC and isinstance(found, File) and found.now:
            found.write(0, None)
        self._files[call.file] = found

    def _do_write(self, call: Call) -> None:
        if call.file in self._files:
            self._files[call.file].write(call.at, call.data)

    def _do_truncate(self, call: Call) -> None:
        file = self._files[call.file]
        file.write(call.at, None if call.at < len(file.now) else b"")

    def _do_fsync(self, call: Call) -> None:
        self._files[call.file].flush()

    def _do_close(self, call: Call) -> None:
        self._files.pop(call.file, None)

    def _do_rename(self, call: Call) -> None:
        what = self._find(call.path)
        (source, old), (target, new) = self._above(call.path), self._above(call.other)
        if source is target:
            source.change({old: None, new: what})
        else:
            source.change({old: None})
            target.change({new: what})

    def _do_mkdir(self, call: Call) -> None:
        folder, name = self._above(call.path)
        folder.change({name: Folder()})

    def _do_unlink(self, call: Call) -> None:
        folder, name = self._above(call.path)
        folder.change({name: None})


def _load(path: Path) -> File | Folder:
    """What lies at a path, all of it flushed."""
    if path.is_dir():
        found = {place.name: _load(place) for place in path.iterdir()}
        return Folder(found, dict(found))
    data = path.read_bytes()
    return File(data, bytearray(data))


def save(place: File | Folder, path: Path, chance: random.Random | None) -> None:
    """Put at a path what is left when the power fails; without chance nothing that was not flushed is."""
    left = place.survive(chance)
    if isinstance(left, bytes):
        path.write_bytes(left)
        return
    path.mkdir()
    for name, what in left.items():
        save(what, path / name, chance)


def list_moments(calls: Iterable[Call], disk: Disk) -> Iterable[int]:
    """Let calls happen one after the other: the number of those so far, after each that changed the disk."""
    for number, call in enumerate(calls):
        disk.do(call)
        if call.kind != "close" and not call.reads:
            yield number
