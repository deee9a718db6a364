"""Which files were measured: their hashes, so that two reports can be known to be about the same clips."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vidlatent.io.sources.disk import DiskSource


@dataclass(frozen=True)
class SourceFile:
    """A clip on disk. Its hash is that of its bytes, as in a cache's manifest, or of a folder's files."""

    sha256: str
    bytes: int


def identify(paths: Iterable[str]) -> dict[str, SourceFile]:
    """The files of clips by their names; those that are none, or cannot be read, are left out."""
    found = {}
    for name in dict.fromkeys(paths):
        path = Path(name)
        if path.is_file() or path.is_dir():  # nothing is read from pipes: it would be lost
            with suppress(OSError):
                found[name] = SourceFile(DiskSource(path).sha256(), _count_bytes(path))
    return found


def _count_bytes(path: Path) -> int:
    files = [p for p in path.iterdir() if p.is_file()] if path.is_dir() else [path]
    return sum(p.stat().st_size for p in files)
