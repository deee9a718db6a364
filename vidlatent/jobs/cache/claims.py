"""Claims: of all processes that work on one cache, only one at a time makes a given entry.

A claim is a lock on a file. The operating system drops it with the process, so a killed run leaves nothing
that would have to expire. Where a disk knows no locks everybody gets every claim: use `--shard` there.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from vidlatent.files import is_at, try_lock


class Claim:
    """The right to make one entry, until it is released. A context manager, which releases it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor

    @classmethod
    def take(cls, path: Path) -> "Claim | None":
        """The claim kept at `path`; None while another process (or another claim of this one) holds it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            if not try_lock(descriptor):
                os.close(descriptor)
                return None
            if is_at(descriptor, path):
                return cls(path, descriptor)
            os.close(descriptor)  # its former holder removed it between our two calls

    def release(self) -> None:
        """Give the claim up, and remove its file."""
        self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Give the claim up, and leave its file where it is."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.release()
