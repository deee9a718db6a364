"""What files have in common that are only read and know their size: a place, and ways to move it."""

import io


class ReadOnly(io.RawIOBase):
    """A file of `size` bytes, read from `at`; children say how, in `readinto`."""

    def __init__(self, size: int) -> None:
        self.size, self.at = size, 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere, counted from the start, from here or from the end."""
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        return self.at

    def tell(self) -> int:
        """Where reading is."""
        return self.at

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True
