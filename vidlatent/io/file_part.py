"""A file that lies inside another one, as a file."""

import io
from pathlib import Path


class FilePart(io.RawIOBase):
    """The bytes [offset, offset + size) of the file at `path`, read only."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self.path = path
        self._file = path.open("rb")
        self._offset, self._size, self._at = offset, size, 0

    def readinto(self, target: memoryview) -> int:
        """Fill `target` from where reading is, as far as there are bytes; their number."""
        view = memoryview(target).cast("B")[: max(0, self._size - self._at)]
        self._file.seek(self._offset + self._at)
        count = self._file.readinto(view)
        self._at += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere, counted from the start, from here or from the end of the part."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Where reading is."""
        return self._at

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """Close the file around it."""
        self._file.close()
        super().close()
