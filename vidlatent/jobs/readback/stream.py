"""Reads latents back for training, shard by shard."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from vidlatent.errors import BadInput
from vidlatent.jobs.readback.catalog import SHARDS, CatalogEntry, Places, catalog, find_shards
from vidlatent.jobs.readback.dataset import read_sample


class LatentStream(IterableDataset):
    """Latents of shards, shard by shard from start to end: for disks and stores that seek slowly.

    Shards are shared out over ranks and workers, and shuffled by (seed, epoch); samples are those of
    LatentDataset. `state_dict` and `load_state_dict` are what a stateful data loader calls in each worker.
    """

    def __init__(
        self,
        shards: Places,
        crop: int | None = None,
        normalise: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        paths = [shards] if isinstance(shards, (str, Path)) else list(shards)
        self.shards = sorted(shard for path in map(Path, paths) for shard in find_shards(path))
        if not self.shards:
            raise BadInput(f"{', '.join(map(str, paths))}: no shards ({', '.join(SHARDS)})")
        self.crop, self.normalise, self.seed = crop, normalise, seed
        self._rank, self._world_size = rank, world_size
        self.epoch = self._done = 0

    def set_epoch(self, epoch: int) -> None:
        """Begin another epoch: it has another order of shards, and other crops."""
        self.epoch, self._done = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """The state to go on from: how many samples of this epoch this worker has given."""
        return {"epoch": self.epoch, "samples": self._done}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where `state_dict` was called."""
        self.epoch, self._done = state["epoch"], state["samples"]

    def __iter__(self) -> Iterator[dict[str, object]]:
        skip = self._done
        for number, (entry, place) in enumerate(self._list_mine()):
            if number < skip:
                continue
            with entry.open() as latents:
                rng = np.random.default_rng([self.seed, self.epoch, *place])
                start = int(rng.integers(entry.shape[0] - self.crop + 1)) if self.crop else 0
                found = read_sample(entry, latents, start, self.crop, self.normalise)
            self._done = number + 1
            yield found
        self._done = 0

    def _list_mine(self) -> Iterator[tuple[CatalogEntry, tuple[int, int]]]:
        """The clips of this rank and worker that are long enough, with the numbers of shard and clip."""
        worker = get_worker_info()
        part, parts = (worker.id, worker.num_workers) if worker else (0, 1)
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.shards))
        for shard in order[self._rank * parts + part :: self._world_size * parts]:
            for number, entry in enumerate(catalog(self.shards[shard])):
                if self.crop is None or entry.shape[0] >= self.crop:
                    yield entry, (int(shard), number)
