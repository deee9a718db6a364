"""A part of a file, used as if it were a file of its own: read by system calls, or through a memory map.

A `.latent` may lie inside a tar or a shard, and the sound of a clip lies inside its `.latent`. Both kinds
here are read only.
"""

import errno
import io
import mmap
import os
from pathlib import Path
from typing import BinaryIO, Protocol


class Openable(Protocol):
    """A file, on a disk or in a store, that can be opened to be read; its text is what people call it."""

    def open(self, mode: str) -> BinaryIO:
        """A new file that can seek, at its first byte."""
        ...


class _ReadOnlyPart(io.RawIOBase):
    """What both kinds share: `size` bytes, and the position `at` that is read next.

    Subclasses implement `readinto`.
    """

    def __init__(self, size: int) -> None:
        self.size, self.at = size, 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to `offset`, counted from the start, the current position or the end; the new position."""
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        if at < 0:  # there are bytes, but they are not of the part
            raise OSError(errno.EINVAL, "a position before the first byte")
        self.at = at
        return at

    def tell(self) -> int:
        """The current position."""
        return self.at

    def readable(self) -> bool:
        """True: `io.RawIOBase` says False unless told otherwise."""
        return True

    def seekable(self) -> bool:
        """True: `io.RawIOBase` says False unless told otherwise."""
        return True


class FilePart(_ReadOnlyPart):
    """The bytes [offset, offset + size) of the file at `path`, read by system calls.

    A `file` that is open already is read instead, and closed with the part.
    """

    def __init__(self, path: Openable, offset: int, size: int, file: BinaryIO | None = None) -> None:
        super().__init__(size)
        self.path = path
        self._file = file or path.open("rb")
        self._offset = offset

    def readinto(self, target: memoryview) -> int:
        """Fill `target` from the current position, as far as there are bytes; returns their number."""
        view = memoryview(target).cast("B")[: max(0, self.size - self.at)]
        self._file.seek(self._offset + self.at)
        count = self._file.readinto(view)
        self.at += count
        return count

    def close(self) -> None:
        """Close the file that holds the part."""
        self._file.close()
        super().close()


class MappedPart(_ReadOnlyPart):
    """The file at `path`, or `part`, (offset, bytes), of it, mapped into memory: a file, and a `view`.

    Pages are read when they are touched, and shared by all processes that map the file; what is not looked
    at is not read. Files are replaced here and never shortened: a process that touches the end of a mapped
    file is killed where another program has cut that end off.
    """

    def __init__(self, path: Path, part: tuple[int, int] | None = None) -> None:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            offset, count = part or (0, size)
            if offset + count > size:
                raise ValueError(f"torn file: expected {offset + count} bytes, found {size}")
            if not count:  # no bytes cannot be mapped
                raise ValueError("empty file")
            lead = offset % mmap.ALLOCATIONGRANULARITY
            self._map = mmap.mmap(file.fileno(), lead + count, access=mmap.ACCESS_READ, offset=offset - lead)
        self.view = memoryview(self._map)[lead : lead + count]
        super().__init__(count)

    def readinto(self, target: memoryview) -> int:
        """Fill `target` from the current position, as far as there are bytes; returns their number."""
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
