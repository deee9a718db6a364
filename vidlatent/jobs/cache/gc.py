"""What lies in a cache and is of no use any more. Only `cache gc` removes anything, and it asks first."""

import os
import stat
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from vidlatent.errors import BadInput
from vidlatent.files import PARTIAL, naming_disk_errors
from vidlatent.io.sources.urls import Root
from vidlatent.jobs.cache.claims import Claim
from vidlatent.jobs.cache.compact import FOLD
from vidlatent.jobs.cache.fold import FOLDED
from vidlatent.jobs.cache.index import LOOKS
from vidlatent.jobs.cache.journal import list_journals
from vidlatent.jobs.cache.manifest import DONE, REPLACED, ROWS, Manifest, ManifestRow
from vidlatent.jobs.cache.packer import PACK, is_packed
from vidlatent.jobs.cache.snapshot import (
    Snapshot,
    describe_state,
    find_newest,
    hash_name,
    list_snapshots,
    number_of,
    path_of,
)
from vidlatent.jobs.cache.store import Store


@dataclass(frozen=True)
class Garbage:
    """A file that may go: why, and its size."""

    path: Path
    why: str
    bytes: int


def find_garbage(root: Root, superseded: bool = False) -> list[Garbage]:
    """Leftovers of killed runs, entries without a row, and files of entries that lie in a shard as well.

    With `superseded` also entries whose sources have changed since. An entry is superseded where every clip
    it was made of has an entry with another key by now, by the same recipe: the file under that name has
    changed. A shard goes as a whole, or stays. Only files of a cache's own kind are looked at, and no link
    is followed out of the cache.
    """
    judge = Judge(Store.open_on_disk(root, "cache gc"), superseded)
    judged = ((path, judge.judge(path)) for path in judge.list_files())
    return [Garbage(path, why, _size(path)) for path, why in judged if why is not None]


def remove_garbage(root: Root, items: list[Garbage], superseded: bool = False) -> int:
    """Remove files, but none that another process works on, or needs by now; returns the bytes freed.

    The user may have taken long to agree, and others work meanwhile: each file is judged anew while its claim
    is held, so that nobody can make or need it between the look and the removal.
    """
    judge = Judge(Store.open_on_disk(root, "cache gc"), superseded)
    return sum(judge.remove(item) for item in items)


class Judge:
    """Says of a file in a cache why it may go, by what the manifest says at that moment."""

    def __init__(self, store: Store, superseded: bool) -> None:
        self._store, self._superseded = store, superseded
        self._manifest = Manifest(store)
        self._folded = FoldedJournals(store)
        self._take_stock()

    def _take_stock(self) -> None:
        """Note which entries the clips of the cache have by now, and which shards hold an entry in use.

        Of the entries, which may be many millions, only numbers are kept, and only where they are asked for.
        Two may have one number: then more stays than must.
        """
        self._wanted, self._wanted_shards = array("q"), set()
        if self._superseded:
            wanted = (row.key for row in self._manifest.rows() if row.status == DONE)
            self._wanted, self._wanted_shards = self._take_note(wanted)
        known = (row.key for row in self._manifest.entries() if row.status == DONE)
        self._shards = {name for name in map(self._name_shard, known) if name}

    def _take_note(self, keys: Iterator[str]) -> tuple[np.ndarray, set[str]]:
        """The numbers of keys, sorted, and the names of the shards that they lie in."""
        numbers, shards = array("q"), set()
        for key in keys:
            numbers.append(hash_name(key))
            shards.add(self._name_shard(key))
        return np.sort(np.array(numbers)), shards

    def _name_shard(self, key: str) -> str:
        packed = self._manifest.find_shard(key)
        return Path(packed.shard).stem if packed is not None else ""

    def _is_wanted(self, key: str) -> bool:
        number = hash_name(key)
        place = np.searchsorted(self._wanted, number)
        return bool(place < len(self._wanted) and self._wanted[place] == number)

    def list_files(self) -> Iterator[Path]:
        """Every file of a cache's own kinds, first those that a killed run may have left."""
        store = self._store
        patterns = (
            *((store.objects, f".*{PARTIAL}"), (store.shards, f".*{PARTIAL}"), (store.claims, "*")),
            *((store.objects, "*.latent"), (store.shards, "shard-*")),
            *((store.thumbnails, f".*{PARTIAL}"), (store.thumbnails, "*.jpg")),
            *((store.manifest, f".*{PARTIAL}"), (store.index, f".*{PARTIAL}")),
        )
        is_own = cache(lambda folder: is_inside(folder, store.root))
        for folder, pattern in patterns:
            inner = sorted(folder.glob("??")) if folder in (store.objects, store.thumbnails) else [folder]
            found = (path for place in inner for path in sorted(place.glob(pattern)))
            yield from (path for path in found if is_own(path.parent) and is_regular(path))
        later = (*self._folded.list_files(), *sorted(store.catalogs.glob("*/*")))
        yield from (path for path in later if is_own(path.parent) and is_regular(path))

    def judge(self, path: Path) -> str | None:
        """Why a file may go; None where it may not."""
        if path.name.endswith(PARTIAL):
            return "left by a run that was killed"
        if path.parent.parent == self._store.catalogs:
            now = describe_state(self._store.manifest, ROWS)
            return None if path.parent.name == now else "of a catalog as the cache is no more"
        if self._folded.holds(path):
            return self._folded.judge(path)
        if path.parent == self._store.claims:
            return "left by a run that was killed" if _is_free(path) else None
        if path.parent == self._store.shards:
            return self._judge_shard(path.stem)
        if path.is_relative_to(self._store.thumbnails):
            return self._judge_thumbnails(path.stem)
        return self._judge_entry(path.stem)

    def _judge_thumbnails(self, key: str) -> str | None:
        row = self._manifest.find(key)
        if row is None or row.status != DONE:
            return say_unused(row)
        return None if not self._superseded or self._is_wanted(key) else _CHANGED

    def _judge_shard(self, name: str) -> str | None:
        if name not in self._shards:
            return "no entry that is in use lies in it"
        return None if not self._superseded or name in self._wanted_shards else _CHANGED

    def _judge_entry(self, key: str) -> str | None:
        row, packed = self._manifest.find(key), self._manifest.find_shard(key)
        if row is None or row.status != DONE:
            return say_unused(row)
        if packed is not None and is_packed(self._store, self._manifest, row):
            return f"the same is in {packed.shard}"
        return None if not self._superseded or self._is_wanted(key) else _CHANGED

    def remove(self, item: Garbage) -> int:
        """Remove a file that was found to be of no use, unless it is of use by now; the bytes freed."""
        if not (is_inside(item.path.parent, self._store.root) and is_regular(item.path)):
            return 0
        claim = Claim.take(self._store.claims / _name_claim(self._store, item.path))
        if claim is None:
            return 0
        with claim:
            if self._manifest.refresh():
                self._take_stock()
            free = item.path.parent == self._store.claims  # as we hold it ourselves
            if not free and self.judge(item.path) is None:
                return 0
            with naming_disk_errors(item.path):
                item.path.unlink(missing_ok=True)
            if item.path.parent.parent == self._store.catalogs:
                with suppress(OSError):  # not empty yet
                    item.path.parent.rmdir()
        return item.bytes


class FoldedJournals:
    """The journals of a cache that were put away, and snapshots that a later one has replaced."""

    def __init__(self, store: Store) -> None:
        self._folders = {store.manifest: ROWS, store.index: LOOKS}
        self._is_good = cache(self._check)  # which reads the whole snapshot

    def list_files(self) -> Iterator[Path]:
        """All of them, older ones first."""
        for folder in self._folders:
            yield from list_journals(folder / FOLDED)
            yield from list_snapshots(folder)[:-1]

    def holds(self, path: Path) -> bool:
        """Whether a file is of this kind."""
        return path.parent in self._folders or (
            path.parent.name == FOLDED and path.parent.parent in self._folders
        )

    def judge(self, path: Path) -> str | None:
        """Why a file may go: what it says is in the newest snapshot, which was read to its end just now."""
        folder = path.parent.parent if path.parent.name == FOLDED else path.parent
        newest = find_newest(folder)
        if number_of(path) >= newest or not self._is_good(folder, newest):
            return None
        return f"what it says is in {path_of(folder, newest).name}"

    def _check(self, folder: Path, number: int) -> bool:
        try:
            Snapshot(self._folders[folder], path_of(folder, number)).check()
        except BadInput:
            return False
        return True


_CHANGED = "its source has changed, and was cached again"


def say_unused(row: ManifestRow | None) -> str:
    """Why the files of an entry are of no use, by the last row about it; None: there is none."""
    if row is None:
        return "no row of the manifest knows it"
    if row.status == REPLACED:
        return "an entry in another form has replaced it"
    return f"of an entry that is {row.status}"


def is_inside(folder: Path, root: Path) -> bool:
    """Whether a folder lies below `root`, and no link leads out of it."""
    return folder.resolve().is_relative_to(root.resolve())


def is_regular(path: Path) -> bool:
    """Whether a path is a file itself, and no link to one; False where it has gone."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _name_claim(store: Store, path: Path) -> str:
    """The name of the claim that a process holds while it makes this file."""
    if path.is_relative_to(store.manifest) or path.is_relative_to(store.index):
        return FOLD
    if path.parent.parent == store.catalogs:
        return store.catalogs.name
    return PACK if path.parent == store.shards else path.name.lstrip(".").split(".", 1)[0]


def _is_free(path: Path) -> bool:
    claim = Claim.take(path)
    if claim is not None:
        claim.close()
    return claim is not None


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:  # finished in this moment
        return 0
