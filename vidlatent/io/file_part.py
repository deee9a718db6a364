"""A file that lies inside another one, as a file."""

from pathlib import Path

from vidlatent.io.read_only import ReadOnly


class FilePart(ReadOnly):
    """The bytes [offset, offset + size) of the file at `path`, read only."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        super().__init__(size)
        self.path = path
        self._file = path.open("rb")
        self._offset = offset

    def readinto(self, target: memoryview) -> int:
        """Fill `target` from where reading is, as far as there are bytes; their number."""
        view = memoryview(target).cast("B")[: max(0, self.size - self.at)]
        self._file.seek(self._offset + self.at)
        count = self._file.readinto(view)
        self.at += count
        return count

    def close(self) -> None:
        """Close the file around it."""
        self._file.close()
        super().close()
