"""Files are replaced, never overwritten: nothing appears under a name before it is complete.

An unfinished `NAME` is written as `.NAME.partial` in the same folder. The process that writes it holds a lock
on it, which the operating system releases when the process ends. So the next run takes over what a killed run
has left, and refuses a file that another run is still writing. What somebody else has put in that place, such
as a link to a file of yours, is refused as well: nothing is written through it.
"""

import errno
import hashlib
import os
import secrets
import shutil
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from vidlatent.durable import sync_file, sync_folder
from vidlatent.errors import BadInput, OutOfResources, UsageError, VidlatentError, parameter

try:
    import fcntl
except ImportError:  # not POSIX: there nobody notices that two runs write the same file
    fcntl = None

PARTIAL = ".partial"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_WRITABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
)
# What no file is to blame for: no free descriptors or memory, a disk or its network that fails.
_FAILING = (
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO, errno.ESTALE),
    *(errno.ENXIO, errno.ENODEV, errno.ETIMEDOUT),
)
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EBADF)  # some network file systems
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)


def partial_path(path: Path) -> Path:
    """Where `path` is written until it is complete: in the same folder, so that a rename can finish it."""
    return path.with_name(f".{path.name}{PARTIAL}")


def refuse_existing(path: Path, force: bool) -> None:
    """Raise UsageError where `path` exists and may not be replaced."""
    if os.path.lexists(path) and not force:
        raise UsageError(
            f"{path}: exists already", f"add {parameter('force')} to replace it, or name another output"
        )


def refuse_unwritable(path: Path) -> None:
    """Raise UsageError where no file can be made at `path`: better now than after the work."""
    folder = path.absolute().parent
    reason = None if os.access(folder, os.W_OK) else errno.EACCES
    if not folder.is_dir():
        reason = errno.ENOTDIR if folder.exists() else errno.ENOENT
    if reason is not None:
        what = f"{path}: cannot be written ({os.strerror(reason)})"
        raise UsageError(what, "name an output you may write")


def refuse_same(source: Path, target: Path) -> None:
    """Raise UsageError where both names lead to one file, which would be replaced by what it becomes."""
    try:
        same = os.path.samefile(source, target)
    except OSError:  # one of them is not there
        return
    if same:
        raise UsageError(f"{target}: is the input itself ({source})", "name another output")


@dataclass(frozen=True)
class Kind:
    """A kind of file, told by how it begins: one of `signs` is among its first `within` bytes."""

    what: str
    signs: tuple[bytes, ...]
    within: int = 16


PNG = Kind("a picture in PNG", (b"\x89PNG\r\n\x1a\n",), 8)


def refuse_foreign(path: Path, kind: Kind) -> None:
    """Raise UsageError where the file at `path` is not of the kind that is to be written there.

    Only results are meant to be replaced: a mistyped name must not cost a source. An empty file may go.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        head = file.read(kind.within)
    if head and not any(sign in head for sign in kind.signs):
        raise UsageError(
            f"{path}: is not {kind.what}, and {parameter('force')} replaces nothing else",
            "name another output, or remove that file first",
        )


def commit(partial: Path, path: Path) -> None:
    """Flush the closed file `partial` to disk and rename it to `path`, which is atomic."""
    with naming_disk_errors(partial), naming_disk_errors(path):  # they may lie in two folders
        sync_file(partial)
        os.replace(partial, path)
        sync_folder(path.parent)


def write_note(path: Path, text: str) -> None:
    """Put a small text at `path`, whole or not at all; it survives a power cut once this returns.

    Several processes may write the same note at once, also on machines that count processes alike: each
    writes a file of its own, and the last one to be renamed counts.
    """
    partial = partial_path(path.with_name(f"{path.name}.{secrets.token_hex(8)}"))
    try:
        with naming_disk_errors(path):
            partial.write_text(text)
        commit(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


class Filling(ABC):
    """The right to make what is to have the name `path`: something `partial`, locked, to be ended in one way.

    It is committed, discarded or left; `done` is true from then on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = partial_path(path)
        self.done = False
        self._lock: int | None = None

    def discard(self) -> None:
        """Remove what is partial, unless it was committed; what was at `path` before stays."""
        if self.done:
            return
        self._remove()
        self._release()

    def leave(self) -> None:
        """Leave what is partial as it is, for a later run to go on with."""
        if not self.done:
            self._release()

    def _end(self, give_name: Callable[[], None]) -> None:
        """Commit by `give_name`; what cannot be committed is discarded."""
        try:
            give_name()
        except BaseException:
            self.discard()
            raise
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        self.done = True

    @abstractmethod
    def _remove(self) -> None: ...


class Replacement(Filling):
    """The right to write one file: an empty, locked file `partial`, to be committed or discarded.

    With `keep` it has what an earlier run has left there.
    """

    def __init__(self, path: Path, keep: bool = False) -> None:
        super().__init__(path)
        with naming_disk_errors(path):
            if path.exists() and not path.is_file():
                raise UsageError(f"{path}: is not a regular file", "name a file that may be replaced")
            self._lock = _lock(self.partial, path, keep)

    def commit(self, path: Path | None = None) -> None:
        """Flush the partial file, which must be closed, to disk, and give it its name, or the name `path`."""
        self._end(lambda: commit(self.partial, path or self.path))

    def _remove(self) -> None:
        with suppress(OSError):  # what cannot be removed is taken over by the next run
            self.partial.unlink(missing_ok=True)


@contextmanager
def replace_on_close(path: Path) -> Iterator[Path]:
    """Give a partial file to write; on a clean exit it becomes `path`, on an error it is removed.

    Ctrl-C is an error like any other. After a kill −9 the next run takes the partial file over.
    """
    replacement = Replacement(path)
    try:
        with naming_disk_errors(path):
            yield replacement.partial
    except BaseException:
        replacement.discard()
        raise
    replacement.commit()


@contextmanager
def refuse_second_run(path: Path) -> Iterator[None]:
    """Hold the right to make `path` by way of other files beside it, which are named by its stem.

    Raises UsageError where another run makes it that way: it would take over those files, or remove them.
    """
    lock = partial_path(path.with_name(f"{path.stem}.lock"))
    with naming_disk_errors(path):
        held = _lock(lock, path, keep=True)
    try:
        yield
    finally:
        with suppress(OSError):  # what cannot be removed is taken over by the next run
            lock.unlink(missing_ok=True)
        os.close(held)


@contextmanager
def naming_disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write `path` into errors that name it."""
    try:
        yield
    except OSError as e:
        if (error := _explain(e, path)) is None:
            raise
        raise error from e


@contextmanager
def naming_read_errors(
    path: object, kind: type[BadInput] = BadInput, hint: str | None = None
) -> Iterator[None]:
    """Turn the operating system's refusals to read `path` into errors that name it.

    They are of a `kind` with a `hint` where the file is to blame, and OutOfResources where the system is.
    """
    try:
        yield
    except OSError as e:
        what = f"{path}: cannot be read ({e.strerror or e})"
        if e.errno in _FAILING:
            raise OutOfResources(what, _advise(e)) from e
        raise kind(what, hint) from e


def _explain(e: OSError, path: Path) -> VidlatentError | None:
    """The error that says why `path` cannot be written; None where it is about something else."""
    if e.errno in _DISK_FULL:
        return OutOfResources(f"{path}: disk full{_spell_free(path)}", "free some space, or write elsewhere")
    if e.errno in (None, errno.EPIPE) or not _concerns(e, path):
        return None
    what = f"{path}: cannot be written ({e.strerror or e})"
    if e.errno in _NOT_WRITABLE:
        return UsageError(what, "name an output you may write")
    return OutOfResources(what, _advise(e))


def _advise(e: OSError) -> str:
    if e.errno in (errno.EMFILE, errno.ENFILE):
        return "too many files are open at once: raise the limit (`ulimit -n`), and run again"
    return "the disk, its network or the system fails: look into the system's log, and run again"


def _spell_free(path: Path) -> str:
    try:
        return f" ({free_bytes(path.parent) / 1e9:.2f} GB free in {path.parent})"
    except OSError:  # a disk that fails need not answer
        return ""


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of `folder`, which need not exist yet."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def _lock(partial: Path, path: Path, keep: bool) -> int:
    """Open `partial`, which no other run may be writing, and empty it unless told to keep what is there.

    The descriptor holds the lock.
    """
    while True:
        held = open_own(partial)
        take_lock(held, path)
        # Another run may have renamed it between the two calls: then it is finished, and must not be emptied.
        if is_at(held, partial):
            if not keep:
                os.ftruncate(held, 0)
            return held
        os.close(held)


def open_own(partial: Path) -> int:
    """Open a partial file to be read and written, made where there is none.

    Raises UsageError where something else lies there, such as a link: nothing is written through that.
    """
    while True:
        with suppress(FileExistsError):
            return os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_LINKS, 0o666)
        try:
            held = os.open(partial, os.O_RDWR | _NO_LINKS | getattr(os, "O_NONBLOCK", 0))
        except FileNotFoundError:  # finished or removed between the two calls
            continue
        except OSError as e:
            if e.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise
            raise blame_stranger(partial) from e
        found = os.fstat(held)
        if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
            return held
        os.close(held)
        raise blame_stranger(partial)


def blame_stranger(partial: Path) -> UsageError:
    """The error about what lies in the place of a partial file or folder, and was not left by us."""
    return UsageError(
        f"{partial}: is a link or no plain file or folder, so nothing is written there",
        "no run of vidlatent has left it: remove it, or write elsewhere",
    )


def take_lock(held: int, path: Path) -> None:
    """Lock an open file or folder; raises UsageError, and closes it, where another run holds the lock."""
    if not try_lock(held):
        os.close(held)
        raise UsageError(f"{path}: another run is writing it", "wait until it ends, or name another output")


def try_lock(descriptor: int) -> bool:
    """Lock an open file; False where another process holds the lock, True where the disk has no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as e:
        if e.errno not in _NO_LOCKS:
            raise
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def is_about_name(e: OSError) -> bool:
    """Whether an error is about a name that was given, or about who may use it, and no fault of the disk."""
    return e.filename is not None and e.errno in _NOT_WRITABLE


def _concerns(e: OSError, path: Path) -> bool:
    """Whether the error is about `path`, and not about another file that was read in the same block."""
    named = [
        Path(os.fsdecode(name)) for name in (e.filename, e.filename2) if isinstance(name, str | bytes | Path)
    ]
    return not named or any(
        place in (path, path.parent)
        or (place.parent == path.parent and place.name.startswith(f".{path.name}"))
        for place in named
    )


def asset(name: str) -> Path:
    """The path of a file that comes with the package."""
    return Path(str(resources.files("vidlatent.assets") / name))
