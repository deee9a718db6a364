"""Claims: of all processes that work on one cache, only one at a time makes a given entry.

A claim is a lock on a file. The operating system drops it with the process, so a killed run leaves nothing
that would have to expire. Where a disk knows no locks everybody gets every claim: use `--shard` there.
"""

import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from vidlatent.files import is_at, naming_disk_errors, try_lock

_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)  # a link could lead out of the cache


class Held(Protocol):
    """The right to do something alone, until it is released. A context manager, which releases it."""

    def release(self) -> None:
        """Give it up."""
        ...

    def close(self) -> None:
        """Give it up, and leave where it is what can be left of it."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type | None, error: BaseException | None, where: TracebackType | None
    ) -> None: ...


class Claim:
    """The right to make one entry, until it is released. A context manager, which releases it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor

    @classmethod
    def take(cls, path: Path) -> "Claim | None":
        """The claim kept at `path`; None while another process (or another claim of this one) holds it."""
        with naming_disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        with naming_disk_errors(path):
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINKS, 0o644)
                if not _lock(descriptor):
                    return None
                if is_at(descriptor, path):
                    _sign(descriptor)
                    return cls(path, descriptor)
                os.close(descriptor)  # its former holder removed it between our two calls

    def release(self) -> None:
        """Give the claim up, and remove its file, while it is still ours."""
        with suppress(OSError):  # `cache gc` finds what cannot be removed now
            self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Give the claim up, and leave its file where it is."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.release()


class Claims:
    """Several claims that are held together: an entry's name may show only once its clip was read."""

    def __init__(self, claims: list[Held]) -> None:
        self._claims = claims

    @classmethod
    def take(
        cls, folder: Path, names: Iterable[str], one: Callable[[Path], Held | None] = Claim.take
    ) -> "Claims | None":
        """The claims of these names in a folder, each taken by `one`.

        None, and none is held, while somebody holds one of them.
        """
        claims = cls([])
        for name in names:
            claim = one(folder / name)
            if claim is None:
                claims.release()
                return None
            claims._claims.append(claim)
        return claims

    def release(self) -> None:
        """Give all of them up."""
        for claim in self._claims:
            claim.release()


def name_holder() -> str:
    """This process, as those read it who wait for a claim of it."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def read_holder(path: Path) -> str:
    """Who holds the claim kept at `path`, for those who wait for it: a process and its machine."""
    with suppress(OSError):
        return path.read_text(errors="replace")[:200].strip() or "another process"
    return "another process"


def _lock(descriptor: int) -> bool:
    """Lock the file of a claim; where that fails it is closed."""
    try:
        locked = try_lock(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    if not locked:
        os.close(descriptor)
    return locked


def _sign(descriptor: int) -> None:
    """Write into the file of a claim who holds it; nothing depends on it but the words of who waits."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{name_holder()}\n".encode())
