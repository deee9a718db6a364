"""Finished entries move into shards, a shard's worth at a time.

An entry is first a file of its own: only a whole, checked file can be claimed, adopted after a crash and
taken over by another process. Once enough of them are there they are copied into a shard; then the shard gets
its name, the manifest its rows, and the files go, in this order. A kill between any two steps leaves every
entry in at least one of both places, and the next run goes on: a file that is in a shard as well is removed,
a shard that nobody knows is made again under the same name (or is found by `cache gc`).
"""

import time

from vidlatent.jobs.cache.claims import Claim
from vidlatent.jobs.cache.manifest import DONE, Manifest, Row
from vidlatent.jobs.cache.shards import Member, Sharding, Unfit, write_shard
from vidlatent.jobs.cache.store import Place, Store

PACK = "pack"  # the claim of whoever packs: one process of a cache at a time
_POLL_S = 0.2


class Packer:
    """Gathers entries, and packs them."""

    def __init__(self, store: Store, manifest: Manifest, sharding: Sharding) -> None:
        self._store, self._manifest, self._sharding = store, manifest, sharding
        self._waiting: dict[str, int] = {}  # bytes of each, in the order they came
        self._bytes = 0

    def offer(self, row: Row) -> None:
        """Take note of a finished entry, unless it is packed already; pack what fills a shard."""
        if row.key not in self._waiting and self._store.entry(row.key).exists():
            self._waiting[row.key] = row.bytes
            self._bytes += row.bytes
            if self._bytes >= self._sharding.bytes:
                self._pack(Claim.take(self._store.claims / PACK), rest=False)

    def finish(self) -> None:
        """Pack the rest, once nobody else does."""
        while self._waiting:
            claim = Claim.take(self._store.claims / PACK)
            self._pack(claim, rest=True)
            if claim is None:
                time.sleep(_POLL_S)

    def _pack(self, claim: Claim | None, rest: bool) -> None:
        """Make shards of what waits; without the claim it waits on."""
        if claim is None:
            return
        with claim:
            self._manifest.refresh()
            while self._waiting and (rest or self._bytes >= self._sharding.bytes):
                self._move(self._group())

    def _group(self) -> list[Row]:
        """The next shard's worth of what is still to be packed."""
        rows: list[Row] = []
        size = 0
        while self._waiting and size < self._sharding.bytes:
            key = next(iter(self._waiting))
            self._bytes -= self._waiting.pop(key)
            row = self._manifest.of_key(key)
            if row is not None and row.status == DONE and self._must_move(row):
                rows.append(self._manifest.as_first(row))
                size += row.bytes
        return rows

    def _must_move(self, row: Row) -> bool:
        """Whether an entry is a file, and nowhere else; a second copy in a file of its own is removed."""
        loose = Place(self._store.entry(row.key))
        if loose.path.exists() and is_packed(self._store, self._manifest, row):
            loose.path.unlink(missing_ok=True)
            return False
        return loose.holds(row.bytes)

    def _move(self, rows: list[Row]) -> None:
        while rows:
            members = [Member(row, self._store.entry(row.key)) for row in rows]
            try:
                name, where = write_shard(self._store.shards, self._sharding.kind, members)
            except Unfit as e:  # the next run makes it again
                rows = [row for row in rows if row.key != e.row.key]
                if e.what is not None:
                    self._manifest.damage(e.row, e.what)
                continue
            self._manifest.pack(where, name)
            self._remove(members)
            return

    def _remove(self, members: list[Member]) -> None:
        for member in members:
            member.path.unlink(missing_ok=True)


def is_packed(store: Store, manifest: Manifest, row: Row) -> bool:
    """Whether an entry lies in a shard, with the very bytes that its row tells of."""
    packed = manifest.shard_of(row.key)
    if packed is None:
        return False
    place = Place(store.shards / packed.shard, (packed.offset, packed.bytes))
    return place.holds(row.bytes) and place.sha256() == row.checksum


def pack_all(store: Store, sharding: Sharding) -> None:
    """Pack every finished entry of a cache that is a file of its own."""
    manifest = Manifest(store)
    try:
        packer = Packer(store, manifest, sharding)
        for row in list(manifest.entries()):
            if row.status == DONE:
                packer.offer(row)
        packer.finish()
    finally:
        manifest.close()
