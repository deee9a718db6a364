"""A file, or a part of one, mapped into memory: what is not looked at is not read."""

import mmap
import os
from pathlib import Path

from vidlatent.io.read_only import ReadOnly


class MappedPart(ReadOnly):
    """The bytes of the file at `path`, or `part`, (offset, bytes), of them, as a file and as `view`.

    Pages are read when they are touched, and shared by all processes that map the file. Files are replaced
    here, never cut: a mapped file that somebody else cuts short kills the process that touches its end.
    """

    def __init__(self, path: Path, part: tuple[int, int] | None = None) -> None:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            offset, count = part or (0, size)
            if offset + count > size:
                raise ValueError(f"torn file: expected {offset + count} bytes, found {size}")
            if not count:  # of nothing there is no map
                raise ValueError("empty file")
            lead = offset % mmap.ALLOCATIONGRANULARITY
            self._map = mmap.mmap(file.fileno(), lead + count, access=mmap.ACCESS_READ, offset=offset - lead)
        self.view = memoryview(self._map)[lead : lead + count]
        super().__init__(count)

    def readinto(self, target: memoryview) -> int:
        """Fill `target` from where reading is, as far as there are bytes; their number."""
        found = self.view[self.at : self.at + len(target)]
        memoryview(target).cast("B")[: len(found)] = found
        self.at += len(found)
        return len(found)

    def close(self) -> None:
        """Unmap the file."""
        if not self.closed:
            self.view.release()
            self._map.close()
        super().close()
