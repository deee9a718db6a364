"""Moves finished entries into shards, as many at a time as fill one.

An entry is first a file of its own: only a whole, checked file can be claimed, adopted after a crash and
taken over by another process. Once enough of them are there they are copied into a shard. Then the shard gets
its name, the manifest gets its rows, and the files are removed, in this order. A kill between any two steps
leaves every entry in at least one of the two places, and the next run goes on from there: a file that is in a
shard as well is removed, a shard without rows is made again under the same name (or is found by `cache gc`).
"""

import time
from pathlib import Path

from vidlatent.jobs.cache.claims import Held
from vidlatent.jobs.cache.manifest import DONE, Manifest, ManifestRow
from vidlatent.jobs.cache.shard_member import ShardMember, Unfit
from vidlatent.jobs.cache.shard_safetensors import index_path
from vidlatent.jobs.cache.shards import Sharding, write_shard
from vidlatent.jobs.cache.store import Place, Store

PACK = "pack"  # the name of the claim to pack: one process of a cache at a time does
_POLL_S = 0.2


class Packer:
    """Gathers the finished entries of one process, and packs them."""

    def __init__(self, store: Store, manifest: Manifest, sharding: Sharding) -> None:
        self._store, self._manifest, self._sharding = store, manifest, sharding
        self._waiting: dict[str, int] = {}  # bytes by key, in the order they came
        self._bytes = 0

    def offer(self, row: ManifestRow) -> None:
        """Take note of a finished entry, unless it is packed by now; pack once a shard can be filled."""
        if row.key not in self._waiting and self._store.has(self._store.entry_path(row.key)):
            self._waiting[row.key] = row.bytes
            self._bytes += row.bytes
            if self._bytes >= self._sharding.bytes:
                self._pack(self._store.take_claim(PACK), rest=False)

    def finish(self) -> None:
        """Pack the rest; wait for other processes that are packing."""
        while self._waiting:
            claim = self._store.take_claim(PACK)
            self._pack(claim, rest=True)
            if claim is None:
                time.sleep(_POLL_S)

    def _pack(self, claim: Held | None, rest: bool) -> None:
        """Make shards of the entries that wait. Without the claim nothing happens: they go on waiting."""
        if claim is None:
            return
        with claim:
            self._manifest.refresh()
            while self._waiting and (rest or self._bytes >= self._sharding.bytes):
                self._move(self._take_group())

    def _take_group(self) -> list[ManifestRow]:
        """Take from the waiting entries as many as fill a shard; the rows of those that must be moved."""
        rows: list[ManifestRow] = []
        size = 0
        while self._waiting and size < self._sharding.bytes:
            key = next(iter(self._waiting))
            self._bytes -= self._waiting.pop(key)
            row = self._manifest.find(key)
            if row is not None and row.status == DONE and self._must_move(row):
                rows.append(self._manifest.retell_of_first_clip(row))
                size += row.bytes
        return rows

    def _must_move(self, row: ManifestRow) -> bool:
        """Whether an entry is a file, and in no shard. A file that is in a shard as well is removed."""
        loose = Place(self._store.entry_path(row.key), home=self._store.home)
        if loose.size is not None and is_packed(self._store, self._manifest, row):
            self._store.home.remove(loose.path)
            return False
        return loose.holds(row.bytes)

    def _move(self, rows: list[ManifestRow]) -> None:
        while rows:
            paths = [self._store.entry_path(row.key) for row in rows]
            members = [
                ShardMember(row, self._store.home.at(path, row.bytes))
                for row, path in zip(rows, paths, strict=True)
            ]
            try:
                path, where = write_shard(self._store.shards, self._sharding.kind, members)
            except Unfit as e:  # the next run makes it again
                rows = [row for row in rows if row.key != e.row.key]
                if e.what is not None:
                    self._manifest.add_damaged(e.row, e.what)
                continue
            if self._sharding.kind == "safetensors":
                self._store.home.hand_over(index_path(path))
            self._store.home.hand_over(path)
            self._manifest.add_packed(where, path.name)
            move_pack_mark(self._store)
            self._remove(paths)
            return

    def _remove(self, paths: list[Path]) -> None:
        for path in paths:
            self._store.home.remove(path)


def read_pack_mark(store: Store) -> object:
    """What is another value each time when entries of the cache have been packed since; it costs one look."""
    return store.home.read_mark(store.shards)


def move_pack_mark(store: Store) -> None:
    """Change the mark, once rows say what is in a shard and before the files of its entries go."""
    store.home.move_mark(store.shards)


def is_packed(store: Store, manifest: Manifest, row: ManifestRow) -> bool:
    """Whether an entry lies in a shard, with the bytes whose checksum is in its row."""
    packed = manifest.find_shard(row.key)
    if packed is None:
        return False
    place = Place(store.shards / packed.shard, (packed.offset, packed.bytes), store.home)
    return place.holds(row.bytes) and place.sha256() == row.checksum


def pack_all(store: Store, sharding: Sharding) -> None:
    """Pack every finished entry of a cache that is a file of its own."""
    manifest = Manifest(store)
    try:
        packer = Packer(store, manifest, sharding)
        for row in manifest.entries():
            if row.status == DONE:
                packer.offer(row)
        packer.finish()
    finally:
        manifest.close()
