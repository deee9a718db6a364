"""Batches of clips of equal shape, the same in every run and on every rank."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
from torch.utils.data import Sampler

from vidlatent.jobs.readback.dataset import LatentDataset


class BucketSampler(Sampler[list[int]]):
    """Batches of clips of equal shape, for `DataLoader(batch_sampler=…)`; every rank gets as many.

    Order and batches follow from (seed, epoch). `state_dict(batches)` says how to go on after so many batches
    of this epoch were trained on, which is for the training loop to count, because workers read ahead.
    """

    def __init__(
        self, dataset: LatentDataset, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self._dataset, self._batch_size, self._seed = dataset, batch_size, seed
        self._rank, self._world_size = rank, world_size
        self.epoch, self._skip = 0, 0
        self._buckets: dict[tuple, list[int]] = defaultdict(list)
        for index in range(len(dataset)):
            self._buckets[dataset.shape(index)].append(index)

    def set_epoch(self, epoch: int) -> None:
        """Begin another epoch: it has another order, and other crops."""
        self.epoch, self._skip = epoch, 0

    def state_dict(self, batches: int = 0) -> dict[str, int]:
        """The state to go on from, after so many batches of this epoch."""
        return {"epoch": self.epoch, "batches": batches}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where `state_dict` was called."""
        self.epoch, self._skip = state["epoch"], state["batches"]

    def __len__(self) -> int:
        return len(self._make_batches()) // self._world_size

    def __iter__(self) -> Iterator[list[int]]:
        mine = self._make_batches()[self._rank :: self._world_size][: len(self)]
        offset = self.epoch * len(self._dataset)
        for batch in mine[self._skip :]:
            yield [offset + index for index in batch]

    def _make_batches(self) -> list[list[int]]:
        """All batches of the epoch, over all ranks; incomplete ones are left out."""
        rng = np.random.default_rng([self._seed, self.epoch])
        batches = []
        for shape in sorted(self._buckets):
            order = rng.permutation(self._buckets[shape]).tolist()
            full = len(order) // self._batch_size * self._batch_size
            batches += [order[i : i + self._batch_size] for i in range(0, full, self._batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]
