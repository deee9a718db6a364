"""Batches of clips of equal shape, the same in every run and on every rank."""

import warnings
from collections.abc import Iterator, Mapping

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
        self._buckets = dataset.by_shape()
        self._refuse_nothing()
        self.dropped = self._count_dropped()
        if self.dropped:
            warnings.warn(
                f"{self.dropped} of {len(dataset)} clips are not shown in an epoch: with drop_last those are "
                f"left out that fill no batch of {batch_size} on every rank",
                stacklevel=2,
            )

    def _refuse_nothing(self) -> None:
        if not len(self):
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
        count = sum(self._count_batches(indices) for indices in self._buckets.values())
        return count // self._world_size if self._drop_last else -(-count // self._world_size)

    def __iter__(self) -> "BatchIterator":
        return BatchIterator(self)

    def batches(self) -> list[list[int]]:
        """The batches of this rank in this epoch."""
        return list(self.make_batches())

    def make_batches(self, start: int = 0) -> Iterator[list[int]]:
        """The batches of this rank in this epoch, from one on, each made when its turn comes."""
        orders, places = self._draw()
        for number in range(start, len(self)):
            bucket, begin = places[(number * self._world_size + self._rank) % len(places)]
            chosen = orders[bucket][begin : begin + self._batch_size]
            yield [Draw(index, self.epoch) for index in chosen.tolist()]

    def _draw(self) -> tuple[list[np.ndarray], np.ndarray]:
        """The order of each bucket, and of all batches: (bucket, where the batch begins in its order)."""
        rng = np.random.default_rng([self._seed, self.epoch])
        orders, places = [], []
        for bucket, shape in enumerate(sorted(self._buckets)):
            orders.append(rng.permutation(self._buckets[shape]))
            begins = np.arange(self._count_batches(orders[-1])) * self._batch_size
            places.append(np.stack([np.full_like(begins, bucket), begins], axis=1))
        found = np.concatenate(places)
        return orders, found[rng.permutation(len(found))]

    def _count_batches(self, indices: np.ndarray) -> int:
        """How many batches a bucket gives; an incomplete one too, unless it is to be left out."""
        size = self._batch_size
        return len(indices) // size if self._drop_last else -(-len(indices) // size)

    def _count_dropped(self) -> int:
        """How many clips an epoch does not show."""
        shown = len(self) * self._world_size * self._batch_size
        return sum(map(len, self._buckets.values())) - shown if self._drop_last else 0


class BatchIterator(Iterator[list[int]]):
    """The batches of one epoch from where the sampler is told to start, and how far it is.

    It begins with the first batch that is asked for: loaders make iterators that they never use.
    """

    def __init__(self, sampler: BucketSampler) -> None:
        self._sampler = sampler
        self._batches: Iterator[list[int]] | None = None
        self._next: int | None = None

    def __next__(self) -> list[int]:
        if self._next is None:
            self._next, self._sampler.start = self._sampler.start, 0
        if self._batches is None:
            self._batches = self._sampler.make_batches(self._next)
        batch = next(self._batches)
        self._next += 1
        self._sampler.given = self._next
        return batch

    def state_dict(self) -> dict[str, int]:
        """The state to go on from, after the batches that were given."""
        return self._sampler.state_dict(self._sampler.start if self._next is None else self._next)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where `state_dict` was called."""
        self._sampler.load_state_dict(state)
        self._next, self._sampler.start, self._batches = state["batches"], 0, None
