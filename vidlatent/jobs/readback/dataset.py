"""Reading latents back for training: random temporal crops, buckets, shards, any number of workers.

Files are mapped into memory: a crop is copied out of the map, and the rest of the file is not read.
Crops are drawn from (seed, epoch, index) alone, so workers, ranks and resumed runs draw the same ones.
"""

import os
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Sampler, default_collate, get_worker_info

from vidlatent.errors import BadInput
from vidlatent.io.latent.reader import LatentReader
from vidlatent.jobs.readback.catalog import SHARDS, Entry, catalog, shards_in

Places = Path | str | Iterable[Path | str]
OPEN_FILES = 64  # per process


class LatentDataset(Dataset):
    """Latents of a cache, of `.latent` files or of shards, by number.

    A sample is a dict: `latents` [t, C, h, w] (`logvar` beside them where it is stored), the first latent
    frame `start`, `source`, `key` and the `facts` that were carried along. `crop` latent frames are cut
    out at random; clips that are shorter are left out, and counted in `too_short`. Latents are in raw
    posterior units; `normalise` gives (z - shift) · scale in float32, which is what a diffusion model
    expects. Index i + epoch·len is the same clip with another crop, which is how a sampler hands epochs
    to workers; `epoch` does the same for samplers that know nothing of it.
    """

    def __init__(
        self,
        places: Places,
        crop: int | None = None,
        normalise: bool = False,
        seed: int = 0,
        recipe: str | None = None,
    ) -> None:
        found = catalog(places, recipe)
        self.entries = [entry for entry in found if crop is None or entry.shape[0] >= crop]
        self.too_short = len(found) - len(self.entries)
        self.crop, self.normalise, self.seed = crop, normalise, seed
        self.epoch = 0
        self._open = OpenFiles()

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, number: int) -> dict[str, object]:
        epoch, index = divmod(number, len(self)) if len(self) else (0, number)
        entry = self.entries[index]
        start = self._start(entry, self.epoch + epoch, index)
        return sample(entry, self._open.reader(entry), start, self.crop, self.normalise)

    def __iter__(self) -> Iterator[dict[str, object]]:
        return (self[index] for index in range(len(self)))

    def shape(self, index: int) -> tuple[int, int, int, int]:
        """[t, C, h, w] of a sample, without reading it."""
        t, *rest = self.entries[index % len(self)].shape
        return (self.crop or t, *rest)  # type: ignore[return-value]

    @staticmethod
    def collate(samples: list[dict[str, object]]) -> dict[str, object]:
        """For `DataLoader(collate_fn=…)`: tensors of equal shape as [B, …], all else as lists."""
        tensors = {name for name, value in samples[0].items() if isinstance(value, (Tensor, int))}
        columns = {name: [item[name] for item in samples] for name in samples[0]}
        return {name: default_collate(held) if name in tensors else held for name, held in columns.items()}

    def _start(self, entry: Entry, epoch: int, index: int) -> int:
        if self.crop is None:
            return 0
        return int(np.random.default_rng([self.seed, epoch, index]).integers(entry.shape[0] - self.crop + 1))


def sample(
    entry: Entry, latents: LatentReader, start: int, crop: int | None, normalise: bool
) -> dict[str, object]:
    """`crop` latent frames from `start` on, or all; only those bytes are read."""
    stop = entry.shape[0] if crop is None else start + crop
    found = latents.read(start, stop)
    held: dict[str, object] = {"latents": normalised(found, latents) if normalise else found}
    if latents.has_logvar:
        held["logvar"] = latents.read_logvar(start, stop)
    return held | {"start": start, "source": entry.source, "key": entry.key, "facts": dict(entry.facts)}


def normalised(latents: Tensor, reader: LatentReader) -> Tensor:
    """[t, C, h, w] → (z - shift) · scale in float32."""
    header = reader.header
    scale, shift = (torch.tensor(values).view(-1, 1, 1) for values in (header.scale, header.shift))
    return (latents.float() - shift) * scale


class OpenFiles:
    """Readers of this process, the last ones used; another process opens its own."""

    def __init__(self, limit: int = OPEN_FILES) -> None:
        self._limit = limit
        self._forget()

    def _forget(self) -> None:
        self._process, self._readers = os.getpid(), OrderedDict()

    def reader(self, entry: Entry) -> LatentReader:
        """The open latents of `entry`."""
        if self._process != os.getpid():  # forked: files and locks are the parent's
            self._forget()
        name = (entry.path, entry.part)
        if name not in self._readers:
            self._readers[name] = entry.open()
            if len(self._readers) > self._limit:
                self._readers.popitem(last=False)[1].close()
        self._readers.move_to_end(name)
        return self._readers[name]

    def __getstate__(self) -> dict[str, int]:
        return {"_limit": self._limit}

    def __setstate__(self, state: Mapping[str, int]) -> None:
        self.__init__(**{name.lstrip("_"): value for name, value in state.items()})  # type: ignore[misc]


class BucketSampler(Sampler[list[int]]):
    """Batches of clips of equal shape, for `DataLoader(batch_sampler=…)`; every rank gets as many.

    Order and batches follow from (seed, epoch). `state_dict(batches)` says how to go on after so many
    batches of this epoch were trained on, which is for the training loop to count: workers read ahead.
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
        """Begin another epoch: another order, other crops."""
        self.epoch, self._skip = epoch, 0

    def state_dict(self, batches: int = 0) -> dict[str, int]:
        """Where training is, after so many batches of this epoch."""
        return {"epoch": self.epoch, "batches": batches}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where `state_dict` was called."""
        self.epoch, self._skip = state["epoch"], state["batches"]

    def __len__(self) -> int:
        return len(self._batches()) // self._world_size

    def __iter__(self) -> Iterator[list[int]]:
        mine = self._batches()[self._rank :: self._world_size][: len(self)]
        offset = self.epoch * len(self._dataset)
        for batch in mine[self._skip :]:
            yield [offset + index for index in batch]

    def _batches(self) -> list[list[int]]:
        """Batches of the whole epoch, incomplete ones left out."""
        rng = np.random.default_rng([self._seed, self.epoch])
        batches = []
        for shape in sorted(self._buckets):
            order = rng.permutation(self._buckets[shape]).tolist()
            full = len(order) // self._batch_size * self._batch_size
            batches += [order[i : i + self._batch_size] for i in range(0, full, self._batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]


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
        self.shards = sorted(shard for path in map(Path, paths) for shard in shards_in(path))
        if not self.shards:
            raise BadInput(f"{', '.join(map(str, paths))}: no shards ({', '.join(SHARDS)})")
        self.crop, self.normalise, self.seed = crop, normalise, seed
        self._rank, self._world_size = rank, world_size
        self.epoch = self._done = 0

    def set_epoch(self, epoch: int) -> None:
        """Begin another epoch: another order of shards, other crops."""
        self.epoch, self._done = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """How many samples of this epoch this worker has given."""
        return {"epoch": self.epoch, "samples": self._done}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where `state_dict` was called."""
        self.epoch, self._done = state["epoch"], state["samples"]

    def __iter__(self) -> Iterator[dict[str, object]]:
        skip = self._done
        for number, (entry, place) in enumerate(self._mine()):
            if number < skip:
                continue
            with entry.open() as latents:
                rng = np.random.default_rng([self.seed, self.epoch, *place])
                start = int(rng.integers(entry.shape[0] - self.crop + 1)) if self.crop else 0
                found = sample(entry, latents, start, self.crop, self.normalise)
            self._done = number + 1
            yield found
        self._done = 0

    def _mine(self) -> Iterator[tuple[Entry, tuple[int, int]]]:
        """The clips of this rank and worker that are long enough, with the number of shard and clip."""
        worker = get_worker_info()
        part, parts = (worker.id, worker.num_workers) if worker else (0, 1)
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.shards))
        for shard in order[self._rank * parts + part :: self._world_size * parts]:
            for number, entry in enumerate(catalog(self.shards[shard])):
                if self.crop is None or entry.shape[0] >= self.crop:
                    yield entry, (int(shard), number)
