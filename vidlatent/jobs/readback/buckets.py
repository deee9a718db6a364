"""Batches of clips of equal shape, the same in every run and on every rank."""

import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import cycle, islice

import numpy as np
from torch.utils.data import Sampler

from vidlatent.errors import UsageError
from vidlatent.jobs.readback.dataset import Draw, LatentDataset


class BucketSampler(Sampler[list[int]]):
    """Batches of clips of equal shape, for `DataLoader(batch_sampler=…)`; every rank gets as many.

    Every clip is shown in every epoch. The last batch of a shape may be smaller than `batch_size`, and ranks
    that would have a batch less than others get one that was shown before. With `drop_last` both are left out
    instead: `dropped` counts the clips that an epoch does not show, and a warning says it.

    Order and batches follow from (seed, epoch). A loader that keeps states, such as torchdata's
    StatefulDataLoader, asks the sampler and its iterator by itself how far they are. With others the training
    loop counts the batches that it trained on, because workers read ahead, and `state_dict(batches)` says how
    to go on after so many of this epoch.
    """

    def __init__(
        self,
        dataset: LatentDataset,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        self._batch_size, self._seed, self._drop_last = batch_size, seed, drop_last
        self._rank, self._world_size = rank, world_size
        self.epoch, self.start, self.given = 0, 0, 0
        self._buckets: dict[tuple, list[int]] = defaultdict(list)
        for index in range(len(dataset)):
            self._buckets[dataset.shape(index)].append(index)
        self._refuse_nothing()
        self.dropped = len(dataset) - len({index for batch in self._share_out() for index in batch})
        if self.dropped:
            warnings.warn(
                f"{self.dropped} of {len(dataset)} clips are not shown in an epoch: with drop_last those are "
                f"left out that fill no batch of {batch_size} on every rank",
                stacklevel=2,
            )

    def _refuse_nothing(self) -> None:
        if not self._share_out():
            largest = max(map(len, self._buckets.values()), default=0)
            raise UsageError(
                f"no batch of {self._batch_size} for each of {self._world_size} ranks: the commonest of "
                f"{len(self._buckets)} shapes has {largest} clips",
                "leave drop_last at False, or make smaller batches",
            )

    def set_epoch(self, epoch: int) -> None:
        """Begin another epoch: it has another order, and other crops."""
        self.epoch, self.start, self.given = epoch, 0, 0

    def state_dict(self, batches: int | None = None) -> dict[str, int]:
        """The state to go on from after so many batches of this epoch; None: after those that were given."""
        return {"epoch": self.epoch, "batches": self.given if batches is None else batches}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where `state_dict` was called."""
        self.epoch, self.start = state["epoch"], state["batches"]
        self.given = self.start

    def __len__(self) -> int:
        return len(self._share_out()) // self._world_size

    def __iter__(self) -> "BatchIterator":
        return BatchIterator(self)

    def batches(self) -> list[list[int]]:
        """The batches of this rank in this epoch."""
        mine = self._share_out()[self._rank :: self._world_size]
        return [[Draw(index, self.epoch) for index in batch] for batch in mine]

    def _share_out(self) -> list[list[int]]:
        """The batches of all ranks: as many for each."""
        batches = self._make_batches()
        surplus = len(batches) % self._world_size
        if self._drop_last:
            return batches[: len(batches) - surplus]
        return list(islice(cycle(batches), len(batches) + (self._world_size - surplus if surplus else 0)))

    def _make_batches(self) -> list[list[int]]:
        """All batches of the epoch; incomplete ones too, unless they are to be left out."""
        rng = np.random.default_rng([self._seed, self.epoch])
        size, batches = self._batch_size, []
        for shape in sorted(self._buckets):
            order = rng.permutation(self._buckets[shape]).tolist()
            count = len(order) // size * size if self._drop_last else len(order)
            batches += [order[i : i + size] for i in range(0, count, size)]
        return [batches[i] for i in rng.permutation(len(batches))]


class BatchIterator(Iterator[list[int]]):
    """The batches of one epoch from where the sampler is told to start, and how far it is.

    It begins with the first batch that is asked for: loaders make iterators that they never use.
    """

    def __init__(self, sampler: BucketSampler) -> None:
        self._sampler = sampler
        self._batches: list[list[int]] | None = None
        self._next: int | None = None

    def __next__(self) -> list[int]:
        if self._next is None:
            self._next, self._sampler.start = self._sampler.start, 0
        if self._batches is None:
            self._batches = self._sampler.batches()
        if self._next >= len(self._batches):
            raise StopIteration
        self._next += 1
        self._sampler.given = self._next
        return self._batches[self._next - 1]

    def state_dict(self) -> dict[str, int]:
        """The state to go on from, after the batches that were given."""
        return self._sampler.state_dict(self._sampler.start if self._next is None else self._next)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where `state_dict` was called."""
        self._sampler.load_state_dict(state)
        self._next, self._sampler.start, self._batches = state["batches"], 0, None
