"""An entry on its way into a shard, and what is said of it there."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vidlatent.io.sources.patience import NoSuchObject
from vidlatent.io.sources.ranges import StoredFile
from vidlatent.jobs.cache.manifest import ManifestRow

_FACTS = (  # what a shard says of a clip: all of its row but when and how fast the entry was made
    *("key", "source", "span", "recipe", "source_sha256", "shape", "dtype", "frames", "width", "height"),
    *("bytes", "checksum", "read", "model", "facts"),
)


class Unfit(Exception):
    """An entry cannot be packed: its file is gone (`what` is None), or is not what its row says."""

    def __init__(self, row: ManifestRow, what: str | None = None) -> None:
        super().__init__(row.key)
        self.row, self.what = row, what


@dataclass(frozen=True)
class ShardMember:
    """An entry to pack: its row, and its file."""

    row: ManifestRow
    path: Path | StoredFile

    def describe(self) -> bytes:
        """What the shard says of the clip, as JSON."""
        names = (*_FACTS, "form") if self.row.form else _FACTS
        return json.dumps({name: getattr(self.row, name) for name in names}, sort_keys=True).encode()

    def open(self) -> "CheckedFile":
        """Open the file; its bytes are checked while they are read. Raises Unfit where it is gone."""
        try:
            return CheckedFile(self.path.open("rb"), self.row)
        except FileNotFoundError as e:
            raise Unfit(self.row) from e


class CheckedFile:
    """The file of an entry, which checks itself against the row once it is read to its end."""

    def __init__(self, file: BinaryIO, row: ManifestRow) -> None:
        self._file, self._row = file, row
        self._digest, self._left = hashlib.sha256(), row.bytes

    def read(self, size: int) -> bytes:
        """The next bytes; raises Unfit where they are not those that were written."""
        try:
            data = self._file.read(size)
        except NoSuchObject as e:
            raise Unfit(self._row) from e
        self._digest.update(data)
        self._left -= len(data)
        wrong = self._left == 0 and self._digest.hexdigest() != self._row.checksum
        if wrong or self._left < 0 or (self._left and len(data) < size):
            raise Unfit(self._row, f"{self._file.name}: not the file that was written (sha256 differs)")
        return data

    def __enter__(self) -> "CheckedFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
