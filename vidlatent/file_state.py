"""What tells that a file, or an object in a store, was written meanwhile."""

import os
from dataclasses import dataclass
from pathlib import Path

# Seconds since its last change after which the state of a file tells of the next one: what is changed again
# within the same tick of a clock may look the same (the trick is git's).
AT_REST_S = 2.0


@dataclass(frozen=True)
class FileState:
    """What changes when a file is written or replaced: its size, its times of change, and its inode."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @property
    def changed_s(self) -> float:
        """Unix time of the last change of the file, or of what is said of it."""
        return max(self.mtime_ns, self.ctime_ns) / 1e9


@dataclass(frozen=True, slots=True)
class ObjectState:
    """What changes when an object in a store is written anew: its size, and what its store calls it by."""

    size: int
    tag: str


State = FileState | ObjectState | tuple[tuple[str, FileState], ...] | None


def read_state(path: Path | str) -> State:
    """The state of a file, or of every file directly in a folder; None where neither can be looked at."""
    try:
        if os.path.isdir(path):
            with os.scandir(path) as found:
                names = sorted(entry.name for entry in found if entry.is_file())
            return tuple((name, _state_of(os.path.join(path, name))) for name in names)
        return _state_of(path)
    except (OSError, ValueError):  # ValueError: no name of a file, such as one with a null character
        return None


def _state_of(path: Path | str) -> FileState:
    found = os.stat(path)
    return FileState(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
