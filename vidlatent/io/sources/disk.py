"""Sources on a disk: a file, or a folder of the images of one video."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vidlatent.errors import BadVideo
from vidlatent.file_state import State, read_state
from vidlatent.io.sources.hashing import hash_file
from vidlatent.io.sources.source import Beat, no_beat


@dataclass(frozen=True, slots=True)  # millions of them may be held
class DiskSource:
    """The file or the folder at `path`. Where it is the copy of something else, `called` says of what."""

    path: Path
    called: str | None = None

    @property
    def name(self) -> str:
        """The path, as it was given, or what it is a copy of."""
        return self.called or str(self.path)

    @property
    def full_name(self) -> str:
        """The path from the root on, so that it says the same from wherever it is read."""
        return os.path.abspath(self.path)

    def open(self) -> BinaryIO:
        """The file; raises BadVideo for a pipe or a device, and OSError for a folder."""
        refuse_special(self)
        return self.path.open("rb")

    def state(self) -> State:
        """The state of the file, or of every file in the folder."""
        return read_state(self.path)

    def sha256(self, beat: Beat = no_beat) -> str:
        """sha256 of a file's bytes, or of the names and bytes of all files in a folder of images."""
        if not self.path.is_dir():
            with self.open() as file:
                return hash_file(file, beat)
        inside = (path for path in sorted(self.path.iterdir()) if path.is_file())
        listed = "".join(f"{path.name}\0{DiskSource(path).sha256(beat)}\n" for path in inside)
        return hashlib.sha256(listed.encode(errors="surrogateescape")).hexdigest()


def refuse_special(source: DiskSource) -> None:
    """Raise BadVideo for a pipe or a device: it can be read once, or never ends, and has no size."""
    path = source.path
    if path.exists() and not path.is_file() and not path.is_dir():
        raise BadVideo(f"{source.name}: a pipe or a device, no file", "write its contents into a file first")
