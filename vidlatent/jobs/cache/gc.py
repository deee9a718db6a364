"""What lies in a cache and is of no use any more. Only `cache gc` removes anything, and it asks first."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vidlatent.files import PARTIAL, naming_disk_errors
from vidlatent.jobs.cache.claims import Claim
from vidlatent.jobs.cache.manifest import DONE, Manifest
from vidlatent.jobs.cache.packer import PACK, is_packed
from vidlatent.jobs.cache.store import Store


@dataclass(frozen=True)
class Garbage:
    """A file that may go: why, and its size."""

    path: Path
    why: str
    bytes: int


def find_garbage(root: Path, superseded: bool = False) -> list[Garbage]:
    """Leftovers of killed runs, entries without a row, and files of entries that lie in a shard as well.

    With `superseded` also entries whose sources have changed since. An entry is superseded where every clip
    it was made of has an entry with another key by now, by the same recipe: the file under that name has
    changed. A shard goes as a whole, or stays. Only files of a cache's own kind are looked at, and no link
    is followed out of the cache.
    """
    judge = Judge(Store.open(root), superseded)
    judged = ((path, judge.judge(path)) for path in judge.list_files())
    return [Garbage(path, why, _size(path)) for path, why in judged if why is not None]


def remove_garbage(root: Path, items: list[Garbage], superseded: bool = False) -> int:
    """Remove files, but none that another process works on, or needs by now; returns the bytes freed.

    The user may have taken long to agree, and others work meanwhile: each file is judged anew while its claim
    is held, so that nobody can make or need it between the look and the removal.
    """
    judge = Judge(Store.open(root), superseded)
    return sum(judge.remove(item) for item in items)


class Judge:
    """Says of a file in a cache why it may go, by what the manifest says at that moment."""

    def __init__(self, store: Store, superseded: bool) -> None:
        self._store, self._superseded = store, superseded
        self._manifest = Manifest(store)
        self._take_stock()

    def _take_stock(self) -> None:
        """Note which entries the clips of the cache have by now, and which shards hold an entry in use."""
        self._wanted = {row.key for row in self._manifest.rows() if row.status == DONE}
        known = {row.key for row in self._manifest.entries() if row.status == DONE}
        self._shards, self._wanted_shards = self._name_shards(known), self._name_shards(self._wanted)

    def _name_shards(self, keys: set[str]) -> set[str]:
        packed = (self._manifest.find_shard(key) for key in keys)
        return {Path(row.shard).stem for row in packed if row is not None}

    def list_files(self) -> Iterator[Path]:
        """Every file of a cache's own kinds, first those that a killed run may have left."""
        store = self._store
        patterns = (
            *((store.objects, f"??/.*{PARTIAL}"), (store.shards, f".*{PARTIAL}"), (store.claims, "*")),
            *((store.objects, "??/*.latent"), (store.shards, "shard-*")),
            *((store.thumbnails, f"??/.*{PARTIAL}"), (store.thumbnails, "??/*.jpg")),
        )
        is_own = cache(lambda folder: is_inside(folder, store.root))
        for folder, pattern in patterns:
            yield from (p for p in sorted(folder.glob(pattern)) if is_own(p.parent) and is_regular(p))

    def judge(self, path: Path) -> str | None:
        """Why a file may go; None where it may not."""
        if path.name.endswith(PARTIAL):
            return "left by a run that was killed"
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
            return "no row of the manifest knows it"
        return None if not self._superseded or key in self._wanted else _CHANGED

    def _judge_shard(self, name: str) -> str | None:
        if name not in self._shards:
            return "no row of the manifest knows it"
        return None if not self._superseded or name in self._wanted_shards else _CHANGED

    def _judge_entry(self, key: str) -> str | None:
        row, packed = self._manifest.find(key), self._manifest.find_shard(key)
        if row is None or row.status != DONE:
            return "no row of the manifest knows it"
        if packed is not None and is_packed(self._store, self._manifest, row):
            return f"the same is in {packed.shard}"
        return None if not self._superseded or key in self._wanted else _CHANGED

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
        return item.bytes


_CHANGED = "its source has changed, and was cached again"


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
