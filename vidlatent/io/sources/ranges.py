"""Files in an object store of which only parts are read, each by a request of its own."""

import errno
import io
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from vidlatent.io.sources.patience import TornTransfer, ask_patiently
from vidlatent.io.sources.stores import connect, never, read_object_state
from vidlatent.io.sources.urls import hide_secrets

AHEAD_BYTES = 256 << 10  # fetched at once of what is read in small pieces, as headers are


@dataclass(frozen=True, slots=True)  # millions of them may be held
class StoredFile:
    """The object at `url`, which may hold a secret, and is not shown. It is opened as a path is.

    `end` says up to which byte it is of interest; None: to its own end, for which its store is asked.
    """

    url: str = field(repr=False)
    end: int | None = None

    def __str__(self) -> str:
        return hide_secrets(self.url)

    @property
    def name(self) -> str:
        """The last part of its address."""
        return PurePosixPath(self.url.partition("?")[0]).name

    def open(self, mode: str = "rb") -> BinaryIO:
        """The object as a file that can seek; nothing is fetched before it is read."""
        assert mode == "rb", "objects in stores are put whole"
        return cast(BinaryIO, io.BufferedReader(RangeFile(self.url, self.end), AHEAD_BYTES))

    def read_bytes(self) -> bytes:
        """All that is of interest."""
        with self.open() as file:
            return file.read()


class RangeFile(io.RawIOBase):
    """The bytes of an object up to `end`, fetched as they are read.

    Without an `end` the store is asked how long the object is, once somebody wants to know. Raises BadVideo
    where the store does not give the bytes.
    """

    def __init__(self, url: str, end: int | None = None) -> None:
        self._url, self.name = url, hide_secrets(url)
        self._at, self._end = 0, end

    @property
    def _size(self) -> int:
        if self._end is None:
            self._end = read_object_state(self._url).size
        return self._end

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to `offset`, counted from the start, the current position or the end; the new position."""
        at = offset + (self._at if whence == io.SEEK_CUR else self._size if whence == io.SEEK_END else 0)
        if at < 0:
            raise OSError(errno.EINVAL, "a position before the first byte")
        self._at = at
        return at

    def readable(self) -> bool:
        """True: `io.RawIOBase` says False unless told otherwise."""
        return True

    def seekable(self) -> bool:
        """True: `io.RawIOBase` says False unless told otherwise."""
        return True

    def readinto(self, target: memoryview) -> int:
        """Fill `target` from the current position, as far as there are bytes; returns their number."""
        view = memoryview(target).cast("B")
        count = min(len(view), max(0, self._size - self._at))
        if count:
            fs, path = connect(self._url)
            question = partial(_fetch_range, fs, path, self._at, count)
            view[:count] = ask_patiently(question, self.name, never)
            self._at += count
        return count


def _fetch_range(fs: object, path: str, begin: int, count: int) -> bytes:
    found = fs.cat_file(path, start=begin, end=begin + count)  # type: ignore[attr-defined]
    if len(found) != count:
        raise TornTransfer(f"{len(found):,} of {count:,} bytes came")
    return found
