"""Reads latents back for training, by number: whole, or random crops in time.

Files are mapped into memory: a crop is copied out of the map, and the rest of the file is not read. Crops are
drawn from (seed, epoch, index) alone, so workers, ranks and resumed runs draw the same ones.
"""

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NotRequired, Self, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from vidlatent.errors import BadInput, UsageError, parameter
from vidlatent.io.latent.reader import LatentReader
from vidlatent.jobs.readback.catalog import Places, catalog
from vidlatent.jobs.readback.entries import CatalogEntry, Entries, Shape
from vidlatent.normalising import normalise

OPEN_FILES = 64  # per process


class Draw(int):
    """The index of a clip, and the epoch whose crop of it is meant."""

    epoch: int

    def __new__(cls, index: int, epoch: int) -> Self:
        """Make an index that carries an epoch."""
        draw = super().__new__(cls, index)
        draw.epoch = epoch
        return draw

    def __getnewargs__(self) -> tuple[int, int]:
        return int(self), self.epoch


class SharedNumber:
    """An integer that a process shares with those that it starts: set here, it is changed in workers too."""

    def __init__(self) -> None:
        self._held = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def value(self) -> int:
        """The number as it is now."""
        return int(self._held)

    @value.setter
    def value(self, value: int) -> None:
        self._held.fill_(value)


class Sample(TypedDict):
    """What a dataset gives: see `LatentDataset`."""

    latents: Tensor  # [t, C, h, w]
    steps: NotRequired[Tensor]  # [t, C]
    logvar: NotRequired[Tensor]
    first_frame: NotRequired[Tensor]
    first_frame_steps: NotRequired[Tensor]
    start: int
    source: str
    key: str
    facts: dict[str, Any]


class LatentDataset(Dataset[Sample]):
    """Latents of a cache, of `.latent` files or of shards, by number.

    A sample is a dict: `latents` [t, C, h, w] (`logvar` beside them where it is stored; `first_frame` too, of
    whole clips), the first latent frame `start`, `source`, `key` and the `facts` that were carried along.
    `crop` latent frames are cut out at random; clips that are shorter are left out, and counted in
    `too_short`. Latents are in raw posterior units; `normalise` gives (z - shift) · scale in float32, which
    is what a diffusion model expects. An epoch has crops of its own: BucketSampler hands it on with every
    index, and `set_epoch` tells it where another sampler is used, to workers that are running already too.
    With `raw`, for latents that are stored as int8, `latents` are the codes, and `steps` [t, C] beside them
    are what they are to be multiplied by, which a GPU does sooner: `latents * steps[..., None, None]`.
    """

    def __init__(
        self,
        places: Places,
        crop: int | None = None,
        normalise: bool = False,
        seed: int = 0,
        recipe: str | None = None,
        raw: bool = False,
    ) -> None:
        check_reading(crop, raw, normalise)
        self.entries = Entries(catalog(places, recipe), crop or 0)
        self.too_short = self.entries.found - len(self.entries)
        self.crop, self.normalise, self.seed, self.raw = crop, normalise, seed, raw
        self._epoch = SharedNumber()
        self._open = OpenFiles()
        if not self.entries:
            found, longest = self.entries.found, self.entries.longest
            if not found:
                raise BadInput(
                    f"{places}: holds no latents yet",
                    "`vidlatent cache status` says what became of each clip",
                )
            raise BadInput(
                f"{places}: none of {found} clips has {crop} latent frames, the longest has {longest}",
                f"lower {parameter('crop')}, or cache longer clips",
            )

    @property
    def epoch(self) -> int:
        """The epoch whose crops are drawn, where an index does not say it."""
        return self._epoch.value

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch.value = epoch

    def set_epoch(self, epoch: int) -> None:
        """Draw the crops of another epoch, in this process and in the workers of its loaders."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, number: int) -> Sample:
        index = self._find_index(number)
        entry = self.entries[index]
        start = self._start(entry, number.epoch if isinstance(number, Draw) else self.epoch, index)
        read = read_codes if self.raw else partial(read_sample, normalise=self.normalise)
        return read(entry, self._open.reader(entry), start, self.crop)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def shape(self, index: int) -> tuple[int, int, int, int]:
        """[t, C, h, w] of a sample, without reading it."""
        t, *rest = self.entries.shape(self._find_index(index))
        return (self.crop or t, *rest)  # type: ignore[return-value]

    def by_shape(self) -> dict[Shape, np.ndarray]:
        """The indices of all samples of each shape [t, C, h, w], in order."""
        found: dict[Shape, list[np.ndarray]] = {}
        for (t, *rest), indices in self.entries.by_shape().items():
            found.setdefault((self.crop or t, *rest), []).append(indices)  # type: ignore[arg-type]
        return {shape: np.sort(np.concatenate(parts)) for shape, parts in found.items()}

    def _find_index(self, number: int) -> int:
        """The index of a clip from 0 on; a negative number counts from the end."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"clip {number} of {len(self)}")
        return int(number) % len(self)

    @staticmethod
    def collate(samples: list[Sample]) -> dict[str, Any]:
        """For `DataLoader(collate_fn=…)`: tensors of equal shape become [B, …], all else becomes lists."""
        tensors = {name for name, value in samples[0].items() if isinstance(value, (Tensor, int))}
        columns = {name: [item[name] for item in samples] for name in samples[0]}
        return {name: default_collate(held) if name in tensors else held for name, held in columns.items()}

    def _start(self, entry: CatalogEntry, epoch: int, index: int) -> int:
        if self.crop is None:
            return 0
        return int(np.random.default_rng([self.seed, epoch, index]).integers(entry.shape[0] - self.crop + 1))


def read_sample(
    entry: CatalogEntry, latents: LatentReader, start: int, crop: int | None, normalise: bool
) -> Sample:
    """The sample of `crop` latent frames from `start` on, or of all; only their bytes are read."""
    stop = entry.shape[0] if crop is None else start + crop
    found = latents.read(start, stop)
    held: dict[str, Any] = {"latents": normalise_latents(found, latents) if normalise else found}
    if latents.has_logvar:
        held["logvar"] = latents.read_logvar(start, stop)
    if crop is None and latents.has_first_frame:  # of the whole clip: a crop begins with another frame
        first = latents.read_first_frame(start, stop)
        held["first_frame"] = normalise_latents(first, latents) if normalise else first
    return Sample(**held, start=start, source=entry.source, key=entry.key, facts=dict(entry.facts))


def read_codes(entry: CatalogEntry, latents: LatentReader, start: int, crop: int | None) -> Sample:
    """The same as codes and steps, of latents that are stored as int8; raises BadInput for others."""
    span = (start, entry.shape[0] if crop is None else start + crop)
    codes, steps = latents.read_raw(*span)
    held: dict[str, Any] = {"latents": codes, "steps": steps}
    if crop is None and latents.has_first_frame:
        held["first_frame"], held["first_frame_steps"] = latents.read_raw(*span, "first_frame")
    return Sample(**held, start=start, source=entry.source, key=entry.key, facts=dict(entry.facts))


def check_reading(crop: int | None, raw: bool, normalise: bool) -> None:
    """Raise UsageError for crops of nothing, and for codes, which are no latents yet, to be normalised."""
    if crop is not None and crop < 1:
        raise UsageError(
            f"{parameter('crop')} {crop}: no latent frames", "give 1 or more, or leave it out for whole clips"
        )
    if raw and normalise:
        raise UsageError(f"{parameter('raw')} gives codes, normalise latents", "leave one of them out")


def normalise_latents(latents: Tensor, reader: LatentReader) -> Tensor:
    """[t, C, h, w] → (z - shift) · scale in float32, as the file's header says them."""
    return normalise(latents, reader.header.scale, reader.header.shift, axis=-3)


class OpenFiles:
    """The open files of this process, those used last. Another process opens its own."""

    def __init__(self, limit: int = OPEN_FILES) -> None:
        self._limit = limit
        self._forget()

    def _forget(self) -> None:
        self._process, self._readers = os.getpid(), OrderedDict()

    def reader(self, entry: CatalogEntry) -> LatentReader:
        """The latents of `entry`, opened where they are not open."""
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
