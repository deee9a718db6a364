"""A cache in an object store. It is worked on through a folder on this machine, see home.py.

Objects are put whole and never change, but for the note that says what the cache is. Journals are parts, see
parts.py; claims are objects that are put only where there is none, see leases.py. The folder on this machine
is made anew by each process and goes with it: a snapshot, which is searched, is fetched into it.
"""

import atexit
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, cached_property
from pathlib import Path

from vidlatent.errors import BadVideo, OutOfResources, UsageError
from vidlatent.file_state import ObjectState
from vidlatent.files import naming_disk_errors, partial_path
from vidlatent.io.sources.patience import NoSuchObject
from vidlatent.io.sources.ranges import StoredFile
from vidlatent.io.sources.stores import fetch, find_object, list_folder, read_object, read_object_state
from vidlatent.io.sources.urls import Address, read_scheme
from vidlatent.io.sources.writing import move_object, put_bytes, put_file, put_new_file, remove_object
from vidlatent.jobs.cache.leases import Lease, Leases
from vidlatent.jobs.cache.listings import Listings
from vidlatent.jobs.cache.parts import PartWriter
from vidlatent.jobs.cache.snapshot import number_of
from vidlatent.jobs.reading.ahead import map_ahead
from vidlatent.jobs.reading.scratch import make_scratch_folder

KEEPING = ("s3", "s3a", "gs", "gcs", "memory")  # kinds of stores that list what they hold, and take more
_MARK = "mark"  # the name of the mark of a folder
_MARK_BYTES = 32
_MOST_LISTINGS = 20  # of one folder, while others put away what is in it


class BucketHome:
    """The home of a cache in a store at `address`, whose files are worked on in the folder `near`."""

    poll_s = 5.0

    def __init__(self, address: Address, near: Path) -> None:
        self._address, self._near = address, near
        self._here: dict[Path, ObjectState | None] = {}  # fetched, as it was then; None: put from here
        self._listings = Listings(self._list, self._ask_size)

    def __reduce__(self) -> tuple:
        return BucketHome, (self._address, self._near)

    def name(self, root: Path) -> str:
        """The address."""
        return str(self._address)

    def _url(self, path: Path) -> str:
        inside = path.relative_to(self._near).as_posix()
        return self._address.url if inside == "." else f"{self._address.url}/{inside}"

    def _list(self, folder: Path) -> dict[str, ObjectState | None]:
        with naming_faults():
            return list_folder(self._url(folder))

    def _ask_size(self, path: Path) -> int | None:
        with naming_faults():
            found = find_object(self._url(path))
        return None if found is None else found.size

    @cached_property
    def _leases(self) -> Leases:
        return Leases(f"{self._address.url}/claims")

    def pull(self, folder: Path) -> None:
        """Fetch what is new in a folder, and remove here what is there no more. Old snapshots stay there.

        What is put away between listing and fetching is looked for once more: a newer snapshot has it.
        """
        for _ in range(_MOST_LISTINGS):
            there = {folder / name: state for name, state in self._list(folder).items() if state is not None}
            newest = max(map(number_of, there), default=0)
            wanted = {path: state for path, state in there.items() if not 0 < number_of(path) < newest}
            for path in [path for path in self._here if path.parent == folder and path not in wanted]:
                self._forget(path)
            new = [item for item in wanted.items() if not self._is_here(*item)]
            if all(list(map_ahead(lambda item: self._fetch(*item), new))):
                return
        raise OutOfResources(
            f"{self.at(folder)}: lists objects that are not there", "look with the tools of the store"
        )

    def pull_file(self, path: Path) -> None:
        """Fetch it, if it is new; remove it here where it is there no more."""
        with naming_faults():
            state = find_object(self._url(path))
        if state is None or not (self._is_here(path, state) or self._fetch(path, state)):
            self._forget(path)

    def _is_here(self, path: Path, state: ObjectState) -> bool:
        return path in self._here and self._here[path] in (None, state)

    def _forget(self, path: Path) -> None:
        self._here.pop(path, None)
        path.unlink(missing_ok=True)

    def _fetch(self, path: Path, state: ObjectState) -> bool:
        """Fetch a file; False where it was moved away in this moment."""
        partial = partial_path(path)
        with naming_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with naming_faults():
                    fetch(self._url(path), partial, state)
            except NoSuchObject:
                return False
            os.replace(partial, path)
        self._here[path] = state
        return True

    def list_names(self, folder: Path) -> list[str]:
        """As the store says them."""
        return list(self._list(folder))

    def publish(self, path: Path) -> None:
        """Put the file."""
        put_file(path, self._url(path))
        self._here[path] = None

    def publish_new(self, path: Path) -> bool:
        """Put the file where there is none; else remove it here."""
        if not put_new_file(path, self._url(path)):
            path.unlink()
            return False
        self._here[path] = None
        return True

    def hand_over(self, path: Path) -> None:
        """Put the file, and remove it here."""
        size = path.stat().st_size
        put_file(path, self._url(path))
        self._listings.note(path, size)
        path.unlink()

    def size(self, path: Path) -> int | None:
        """As its folder was listed; what is new there is asked for."""
        return self._listings.size(path)

    def at(self, path: Path, end: int | None = None) -> StoredFile:
        """A file of which parts are fetched as they are read."""
        return StoredFile(self._url(path), end)

    @contextmanager
    def borrow(self, path: Path) -> Iterator[Path]:
        """A copy, which goes afterwards."""
        try:
            self._fetch(path, read_object_state(self._url(path)))
            yield path
        finally:
            self._forget(path)

    def remove(self, path: Path) -> None:
        """Remove the object."""
        remove_object(self._url(path))
        self._listings.note(path, None)

    def put_away(self, folder: Path, away: Path) -> None:
        """Move those objects whose files were moved here."""
        there = self._list(folder)
        for path in sorted(away.glob("*")):
            if path.name in there:
                move_object(self._url(folder / path.name), self._url(path))

    def take_claim(self, path: Path) -> Lease | None:
        """An object that is put where there is none."""
        return self._leases.take(path.name)

    def read_holder(self, path: Path) -> str:
        """As the object says."""
        return self._leases.read_holder(path.name)

    @property
    def keeps_claims(self) -> bool:
        """Whether a claim keeps others away."""
        return self._leases.work

    def open_journal(self, folder: Path, durable: bool = True) -> PartWriter:
        """A journal of parts."""
        return PartWriter(folder, self.publish)

    def read_mark(self, folder: Path) -> object:
        """The text of an object; None where there is none."""
        with naming_faults(), suppress(NoSuchObject):
            return read_object(self._url(folder / _MARK), _MARK_BYTES)
        return None

    def move_mark(self, folder: Path) -> None:
        """Put it anew, with another text."""
        put_bytes(self._url(folder / _MARK), os.urandom(8).hex().encode())


@contextmanager
def naming_faults() -> Iterator[None]:
    """Turn what a store answers to whoever reads a cache's journals into errors that end a run."""
    try:
        yield
    except NoSuchObject:
        raise
    except BadVideo as e:
        raise OutOfResources(e.what, e.hint or "the store, or the way to it, fails: run again") from None


@cache
def open_home(address: Address) -> tuple[BucketHome, Path]:
    """The home of a cache in a store, and the folder in which this process works on it.

    Raises UsageError where no cache can be kept there.
    """
    if read_scheme(address.url) not in KEEPING:
        raise UsageError(f"{address}: no store that a cache can lie in", "name a folder, or s3:// or gs://")
    near, _ = make_scratch_folder()
    atexit.register(_remove, near, os.getpid())
    return BucketHome(address, near), near


def _remove(near: Path, process: int) -> None:
    if os.getpid() == process:  # and not one that was forked from it
        shutil.rmtree(near, ignore_errors=True)
