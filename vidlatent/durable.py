"""What survives a power cut: bytes after an fsync of their file, names after an fsync of their folder.

A new file, a renamed file and a new folder each have a name in a folder, and that name is lost where only the
file was flushed. So whatever is to be relied on has both flushed before anything else says that it is there.
"""

import errno
import os
from pathlib import Path

# What a disk answers that cannot flush a folder by itself, and a folder that may be entered but not listed.
_NOT_FLUSHED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM)


def sync_folder(folder: Path) -> None:
    """Flush the names in `folder`, so that what was made, renamed or removed there stays so."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as e:
        if e.errno in _NOT_FLUSHED:
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as e:
        if e.errno not in _NOT_FLUSHED:
            raise
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Flush the bytes of a closed file."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_contents(folder: Path) -> None:
    """Flush every file in a folder, and their names."""
    for path in sorted(folder.iterdir()):
        sync_file(path)
    sync_folder(folder)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing; once this returns it survives a power cut.

    The folder above is flushed where this one is there already, too: whoever made it may have been killed
    before that.
    """
    if not path.parent.is_dir():
        make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)
