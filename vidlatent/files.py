"""Files are replaced, never overwritten: nothing appears under a name before it is complete."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vidlatent.errors import OutOfResources, UsageError

PARTIAL = ".partial"
_BLOCK_BYTES = 1 << 20


def partial_path(path: Path) -> Path:
    """Where an unfinished `path` grows: the same folder, so that a rename can finish it."""
    return path.with_name(f".{path.name}{PARTIAL}")


def refuse_existing(path: Path, force: bool) -> None:
    """Raise UsageError where `path` exists and may not be replaced."""
    if path.exists() and not force:
        raise UsageError(f"{path}: exists already", "add --force to replace it, or name another output")


def commit(partial: Path, path: Path) -> None:
    """Make a finished, closed `partial` durable and give it its name, atomically."""
    with naming_disk_errors(path):
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def replace_on_close(path: Path) -> Iterator[Path]:
    """Give a partial path to write; on a clean exit it becomes `path`, on an error it is removed."""
    partial = partial_path(path)
    try:
        with naming_disk_errors(path):
            yield partial
        commit(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def naming_disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into errors that name `path`."""
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            free = free_bytes(path.parent) / 1e9
            raise OutOfResources(
                f"{path}: disk full ({free:.2f} GB free in {path.parent})",
                "free some space, or write elsewhere",
            ) from e
        if e.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
            raise UsageError(
                f"{path}: cannot be written ({e.strerror})", "name an output you may write"
            ) from e
        raise


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk that holds `folder`."""
    return shutil.disk_usage(folder if folder.exists() else Path.cwd()).free
