"""A folder appears under its name once all its files are there, like a file: see files.py."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from vidlatent.durable import make_folder, sync_contents, sync_folder
from vidlatent.files import Filling, blame_stranger, is_at, naming_disk_errors, take_lock


class FolderReplacement(Filling):
    """The right to fill one folder: an empty, locked folder `partial`, to be committed or discarded.

    Folders above it are made. The folder may be there already, as long as it is empty. With `keep` the
    partial folder has what an earlier run has left in it.
    """

    def __init__(self, path: Path, keep: bool = False) -> None:
        super().__init__(path)
        with naming_disk_errors(path):
            make_folder(path.parent)
            self._lock = _lock_folder(self.partial, path)
            if not keep:
                _empty(self.partial)

    def commit(self) -> None:
        """Flush the files in the partial folder to disk, and give the folder its name."""
        self._end(self._give_name)

    def _give_name(self) -> None:
        with naming_disk_errors(self.path):
            sync_contents(self.partial)
            os.replace(self.partial, self.path)
            sync_folder(self.path.parent)

    def _remove(self) -> None:
        shutil.rmtree(self.partial, ignore_errors=True)


def _lock_folder(partial: Path, path: Path) -> int | None:
    """Make the folder `partial`, or take it, which no other run may be filling; the descriptor holds the
    lock.

    None where folders cannot be opened, and so cannot be locked.
    """
    while True:
        with suppress(FileExistsError):
            partial.mkdir()
        if os.path.lexists(partial) and (partial.is_symlink() or not partial.is_dir()):
            raise blame_stranger(partial)
        if os.name != "posix":
            return None
        try:
            held = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:  # finished between the two calls
            continue
        take_lock(held, path)
        if is_at(held, partial):
            return held
        os.close(held)


def _empty(folder: Path) -> None:
    """Remove everything that a killed run has left in a partial folder."""
    for left in folder.iterdir():
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
