"""Sources in an object store."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from vidlatent.file_state import State
from vidlatent.io.sources.disk import DiskSource
from vidlatent.io.sources.hashing import hash_file
from vidlatent.io.sources.source import Beat, no_beat
from vidlatent.io.sources.stores import open_object, read_object_state
from vidlatent.io.sources.urls import find_beside, hide_secrets, is_url


@dataclass(frozen=True, slots=True)  # millions of them may be held
class StoredSource:
    """The object at `url`, which may hold a secret, and is not shown.

    A run fetches it whole before a process reads it, see jobs/reading/scratch.py; opened by itself it is
    fetched piece by piece.
    """

    url: str = field(repr=False)

    @property
    def name(self) -> str:
        """The address, without what is secret in it."""
        return hide_secrets(self.url)

    @property
    def full_name(self) -> str:
        """The same."""
        return self.name

    def open(self) -> BinaryIO:
        """The object as a file."""
        return open_object(self.url)

    def state(self) -> State:
        """What its store says of it now; raises BadVideo where it says nothing."""
        return read_object_state(self.url)

    def sha256(self, beat: Beat = no_beat) -> str:
        """sha256 of its bytes, all of which are fetched for that."""
        with self.open() as file:
            return hash_file(file, beat)

    def copied(self, path: Path) -> DiskSource:
        """The copy of it at `path`."""
        return DiskSource(path, self.name)


def find_source_beside(table: DiskSource | StoredSource, named: str) -> DiskSource | StoredSource:
    """What a table calls `named`: an address, or a path that begins at the table's own folder."""
    if is_url(named):
        return StoredSource(named)
    if isinstance(table, StoredSource):
        return StoredSource(find_beside(table.url, named))
    return DiskSource(table.path.parent / named)
