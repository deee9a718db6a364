"""Sources that lie in another one, such as the members of a tar: read where they are, without a copy."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from vidlatent.file_state import State
from vidlatent.io.file_parts import FilePart
from vidlatent.io.sources.disk import DiskSource
from vidlatent.io.sources.hashing import hash_file
from vidlatent.io.sources.source import Beat, no_beat
from vidlatent.io.sources.stored import StoredSource

MEMBER = "::"  # between a tar and the name of a file in it, or a table and one of its rows


@dataclass(frozen=True, slots=True)  # millions of them may be held
class MemberSource:
    """The bytes [offset, offset + size) of the tar `inside`, called `name`."""

    inside: DiskSource | StoredSource
    name: str
    offset: int
    size: int

    def open(self) -> BinaryIO:
        """A file that begins and ends with the member's bytes."""
        part = FilePart(Path(self.inside.name), self.offset, self.size, self.inside.open())
        return cast(BinaryIO, io.BufferedReader(part))

    def state(self) -> State:
        """That of the whole tar."""
        return self.inside.state()

    def sha256(self, beat: Beat = no_beat) -> str:
        """sha256 of the member's bytes."""
        with self.open() as file:
            return hash_file(file, beat)
