"""Where a cache lies: on a disk, or in an object store, see bucket.py. Nobody above knows the difference.

Everybody works on a folder. On a disk that is the cache itself. Of a cache in a store it is a folder on this
machine in which its journals, snapshots and notes are mirrored, and where new files are made, until they are
complete and are handed over. What lies in the cache is named by its path in that folder in both cases.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from vidlatent.files import naming_disk_errors
from vidlatent.io.sources.ranges import StoredFile
from vidlatent.jobs.cache.claims import Claim, Held, read_holder
from vidlatent.jobs.cache.journal import JournalWriter

_MARK_STEP_NS = 1_000_000_000


class Journal(Protocol):
    """Where one process writes down records for all others."""

    def append(self, *records: Mapping[str, object]) -> None:
        """Write records."""
        ...

    def flush(self) -> None:
        """See to it that all that was written is there for others, and survives this process."""
        ...

    def close(self) -> None:
        """Write nothing more, but what waits."""
        ...


class Home(Protocol):
    """Where a cache lies, and what can be done there. `poll_s` is how long to wait before asking again."""

    poll_s: float

    @property
    def keeps_claims(self) -> bool:
        """Whether claims keep others away, as far as is known."""
        ...

    def name(self, root: Path) -> str:
        """What people call the cache whose files are worked on in the folder `root`."""
        ...

    def pull(self, folder: Path) -> None:
        """Have the files directly in a folder of journals or notes here as they are in the cache now."""
        ...

    def pull_file(self, path: Path) -> None:
        """Have one file here as it is in the cache now, if it is there."""
        ...

    def list_names(self, folder: Path) -> list[str]:
        """The names of all files and folders that lie directly in a folder of the cache."""
        ...

    def publish(self, path: Path) -> None:
        """Let everybody see a complete file, which stays here as well."""
        ...

    def publish_new(self, path: Path) -> bool:
        """The same of a file that nobody else may have published; False where somebody has."""
        ...

    def hand_over(self, path: Path) -> None:
        """Let everybody see a complete file, of which nothing need stay here."""
        ...

    def size(self, path: Path) -> int | None:
        """How many bytes a file of the cache has; None where there is none."""
        ...

    def at(self, path: Path, end: int | None = None) -> Path | StoredFile:
        """What opens a file of the cache, of which nobody wants what follows after byte `end`."""
        ...

    def borrow(self, path: Path) -> AbstractContextManager[Path]:
        """A file of the cache as one on this machine, while the block runs."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file of the cache, if there is one."""
        ...

    def put_away(self, folder: Path, away: Path) -> None:
        """Move those files of the cache that were moved here from one folder into another."""
        ...

    def take_claim(self, path: Path) -> Held | None:
        """The claim that is kept at a path of the cache; None while somebody holds it."""
        ...

    def read_holder(self, path: Path) -> str:
        """Who holds a claim, in words."""
        ...

    def open_journal(self, folder: Path, durable: bool = True) -> Journal:
        """A journal of this process in a folder of journals."""
        ...

    def read_mark(self, folder: Path) -> object:
        """What is another value once the mark of a folder was moved; it costs one look."""
        ...

    def move_mark(self, folder: Path) -> None:
        """Move the mark of a folder."""
        ...


class DiskHome:
    """A cache on a disk: what lies in its folder is in the cache.

    Whether the disk knows locks is not found out: see claims.py.
    """

    poll_s = 0.5
    keeps_claims = True

    def name(self, root: Path) -> str:
        """The path."""
        return str(root)

    def pull(self, folder: Path) -> None:
        """Nothing: it is here."""

    def pull_file(self, path: Path) -> None:
        """Nothing: it is here."""

    def list_names(self, folder: Path) -> list[str]:
        """As the disk says them."""
        with suppress(FileNotFoundError):
            return [path.name for path in folder.iterdir()]
        return []

    def publish(self, path: Path) -> None:
        """Nothing: it is there since it has its name."""

    def publish_new(self, path: Path) -> bool:
        """True: who else would make it was kept away by a claim."""
        return True

    def hand_over(self, path: Path) -> None:
        """Nothing: it is there since it has its name."""

    def size(self, path: Path) -> int | None:
        """As the disk says it."""
        try:
            return path.stat().st_size
        except OSError:
            return None

    def at(self, path: Path, end: int | None = None) -> Path:
        """The path itself."""
        return path

    @contextmanager
    def borrow(self, path: Path) -> Iterator[Path]:
        """The path itself."""
        yield path

    def remove(self, path: Path) -> None:
        """Remove the file."""
        with naming_disk_errors(path):
            path.unlink(missing_ok=True)

    def put_away(self, folder: Path, away: Path) -> None:
        """Nothing: they have moved."""

    def take_claim(self, path: Path) -> Claim | None:
        """A lock on the file."""
        return Claim.take(path)

    def read_holder(self, path: Path) -> str:
        """As the file says."""
        return read_holder(path)

    def open_journal(self, folder: Path, durable: bool = True) -> JournalWriter:
        """A file that grows."""
        return JournalWriter(folder, durable)

    def read_mark(self, folder: Path) -> object:
        """The time of the folder; None where there is none."""
        try:
            with os.scandir(folder):  # on a network disk it is opening that asks the server
                return os.stat(folder).st_mtime_ns
        except OSError:
            return None

    def move_mark(self, folder: Path) -> None:
        """Set the time of the folder. It moves by a second at least, as some disks count no less."""
        before = os.stat(folder).st_mtime_ns
        now = max(time.time_ns(), before + _MARK_STEP_NS)
        with naming_disk_errors(folder):
            try:
                os.utime(folder, ns=(now, now))
            except PermissionError:  # the folder is somebody else's: there only the present may be set
                os.utime(folder)


DISK = DiskHome()
