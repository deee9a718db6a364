"""Reads latents back for training, shard by shard."""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from vidlatent.jobs.readback.catalog import Places, list_places
from vidlatent.jobs.readback.dataset import Sample, SharedNumber, check_reading, read_codes, read_sample
from vidlatent.jobs.readback.entries import CatalogEntry
from vidlatent.jobs.readback.shard_lists import list_shards

Placed = tuple[CatalogEntry, tuple[int, int]]  # a clip, and the numbers of its shard and of the clip in it


class LatentStream(IterableDataset[Sample]):
    """Latents of shards, shard by shard from start to end: for disks and stores that seek slowly.

    Shards are shuffled by (seed, epoch) and shared out over workers; samples are those of LatentDataset. With
    several ranks the row of all clips is parted instead, so that every rank and worker gives as many: a clip
    at a border is then shown twice. For that all shards are counted when the stream is made: those of a disk
    are listed, those of a cache in a store are known from its manifest.

    With a `buffer` each clip is drawn from so many that come next, which mixes those of neighbouring shards.
    They wait as places on the disk, not as latents, so a thousand of them take a megabyte.

    `state_dict` and `load_state_dict` are what a stateful data loader calls in each worker. `set_epoch` holds
    for workers that are running already too.
    """

    def __init__(  # noqa: PLR0913  what LatentDataset takes, and which rank this is
        self,
        shards: Places,
        crop: int | None = None,
        normalise: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        raw: bool = False,
        buffer: int = 0,
    ) -> None:
        check_reading(crop, raw, normalise)
        self._buffer = buffer
        self._lists = list_shards(list_places(shards))
        self.shards = [shard.path for shard in self._lists]
        self.crop, self.normalise, self.seed, self.raw = crop, normalise, seed, raw
        self._rank, self._world_size = rank, world_size
        self._epoch, self._skip, self._done = SharedNumber(), 0, 0
        self._read = read_codes if raw else partial(read_sample, normalise=normalise)
        self._counts = [shard.count(crop or 0) for shard in self._lists] if world_size > 1 else []

    @property
    def epoch(self) -> int:
        """The epoch that is given, or that the next iteration gives."""
        return self._epoch.value

    def set_epoch(self, epoch: int) -> None:
        """Begin another epoch: it has another order of shards, and other crops."""
        self._epoch.value, self._skip, self._done = epoch, 0, 0

    def state_dict(self) -> dict[str, int]:
        """The state to go on from: how many samples of this epoch this worker has given."""
        return {"epoch": self.epoch, "samples": self._done}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where `state_dict` was called."""
        self._epoch.value, self._skip, self._done = state["epoch"], state["samples"], state["samples"]

    def __iter__(self) -> Iterator[Sample]:
        epoch, skip = self.epoch, self._skip
        self._skip, self._done = 0, skip
        for number, (entry, place) in enumerate(self._list_mine(epoch)):
            if number < skip:
                continue
            with entry.open() as latents:
                rng = np.random.default_rng([self.seed, epoch, *place])
                start = int(rng.integers(entry.shape[0] - self.crop + 1)) if self.crop else 0
                found = self._read(entry, latents, start, self.crop)
            self._done = number + 1
            yield found
        self._done = 0

    def _list_mine(self, epoch: int) -> Iterator[Placed]:
        """The clips of this rank and worker that are long enough, in the order in which they are given."""
        worker = get_worker_info()
        part, parts = (worker.id, worker.num_workers) if worker else (0, 1)
        found = self._list_part(epoch, part, parts)
        chance = np.random.default_rng([self.seed, epoch, self._rank * parts + part])
        return mix(found, self._buffer, chance) if self._buffer > 1 else found

    def _list_part(self, epoch: int, part: int, parts: int) -> Iterator[Placed]:
        """The clips of worker `part` of `parts`, shard after shard."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.shards))
        if self._world_size > 1:
            yield from self._list_share(order, self._rank * parts + part, self._world_size * parts)
            return
        for shard in order[part::parts]:
            yield from self._list_shard(int(shard))

    def _list_share(self, order: np.ndarray, share: int, shares: int) -> Iterator[Placed]:
        """One share of the row of all clips, shard after shard: as long as every other share."""
        total = sum(self._counts)
        begin = share * total // shares
        end = begin + -(-total // shares)
        for shard in map(int, order):
            count = self._counts[shard]
            if begin < count and end > 0:
                yield from list(self._list_shard(shard))[max(0, begin) : end]
            begin, end = begin - count, end - count

    def _list_shard(self, shard: int) -> Iterator[Placed]:
        """The clips of a shard that are long enough."""
        for number, entry in enumerate(self._lists[shard].list()):
            if self.crop is None or entry.shape[0] >= self.crop:
                yield entry, (shard, number)


def mix(items: Iterator[Placed], count: int, chance: np.random.Generator) -> Iterator[Placed]:
    """All items, each drawn from `count` of them that wait, while another takes its place."""
    waiting = list(islice(items, count))
    for item in items:
        drawn = int(chance.integers(count))
        yield waiting[drawn]
        waiting[drawn] = item
    for drawn in chance.permutation(len(waiting)):
        yield waiting[drawn]
