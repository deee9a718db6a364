"""The clips to train on, by number, in as little memory as there are many of them."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np

from vidlatent.io.latent.reader import LatentReader, open_latent
from vidlatent.io.sources.ranges import StoredFile
from vidlatent.jobs.readback.plain_shards import PlainLatents, PlainTensor

Shape = tuple[int, int, int, int]  # t, C, h, w


@dataclass(frozen=True)
class CatalogEntry:
    """The latents of one clip: where they lie, their shape [t, C, h, w], the clip's name and its facts."""

    path: Path | StoredFile
    shape: Shape
    source: str
    key: str = ""
    part: tuple[int, int] | None = None
    facts: Mapping[str, object] = field(default_factory=dict)
    plain: PlainTensor | None = None  # a tensor in a file of tensors, and no `.latent`

    def open(self) -> LatentReader | PlainLatents:
        """Open the latents, if they can be through a memory map: of a crop nothing else is read."""
        if self.plain is not None:
            return PlainLatents(self.path, self.part, self.plain)
        return open_latent(self.path, self.part, mapped=True)


class Catalog(Protocol):
    """Entries by number. `shapes` are those that there are, `kinds` says which of them each entry has."""

    shapes: Sequence[Shape]
    kinds: np.ndarray

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> CatalogEntry: ...

    def by_shard(self) -> dict[str, np.ndarray]:
        """Of a cache in a store: the numbers of the entries in each shard, in order, by its address."""
        ...


class ListedEntries(list[CatalogEntry]):
    """A catalog that is held in memory: for folders, shards, and caches that are not large."""

    def __init__(self, entries: Iterable[CatalogEntry]) -> None:
        super().__init__(entries)
        numbers: dict[Shape, int] = {}
        kinds = [numbers.setdefault(entry.shape, len(numbers)) for entry in self]
        self.shapes, self.kinds = list(numbers), np.array(kinds, np.uint32)

    def by_shard(self) -> dict[str, np.ndarray]:
        """Entries that are files of their own are in no shard; of several clips of one entry the first is."""
        found: dict[str, dict[int, int]] = {}
        for number, entry in enumerate(self):
            if entry.part is not None and isinstance(entry.path, StoredFile):
                found.setdefault(entry.path.url, {}).setdefault(entry.part[0], number)
        return {url: np.array([begins[at] for at in sorted(begins)]) for url, begins in found.items()}


class Entries(Sequence[CatalogEntry]):
    """The entries of several catalogs, one after the other: those of at least so many latent frames."""

    def __init__(self, catalogs: Sequence[Catalog], least: int = 0) -> None:
        self._catalogs = catalogs
        self._kept = [_keep(catalog, least) for catalog in catalogs]
        counts = [len(c if kept is None else kept) for c, kept in zip(catalogs, self._kept, strict=True)]
        self._ends = list(accumulate(counts))
        self.found = sum(map(len, catalogs))
        self.longest = max((shape[0] for catalog in catalogs for shape in catalog.shapes), default=0)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: int) -> CatalogEntry:  # type: ignore[override]
        catalog, inner = self._locate(number)
        return self._catalogs[catalog][inner]

    def shape(self, number: int) -> Shape:
        """[t, C, h, w] of an entry, without looking at the entry itself."""
        catalog, inner = self._locate(number)
        return self._catalogs[catalog].shapes[self._catalogs[catalog].kinds[inner]]

    def _locate(self, number: int) -> tuple[int, int]:
        """Which catalog an entry is in, and its number there."""
        if not 0 <= number < len(self):
            raise IndexError(f"entry {number} of {len(self)}")
        catalog = bisect_right(self._ends, number)
        inner = number - (self._ends[catalog - 1] if catalog else 0)
        kept = self._kept[catalog]
        return catalog, inner if kept is None else int(kept[inner])

    def by_shape(self) -> dict[Shape, np.ndarray]:
        """The numbers of the entries of each shape, in order."""
        found: dict[Shape, list[np.ndarray]] = {}
        for catalog, kept, end in zip(self._catalogs, self._kept, self._ends, strict=True):
            kinds = catalog.kinds if kept is None else catalog.kinds[kept]
            order = np.argsort(kinds, kind="stable")
            for group in np.split(order, np.flatnonzero(np.diff(kinds[order])) + 1):
                if len(group):
                    shape = catalog.shapes[kinds[group[0]]]
                    found.setdefault(shape, []).append(group + (end - len(kinds)))
        return {shape: np.concatenate(groups) for shape, groups in found.items()}


def _keep(catalog: Catalog, least: int) -> np.ndarray | None:
    """The numbers of the entries that are long enough; None where all are."""
    fine = np.array([shape[0] >= least for shape in catalog.shapes], bool)
    return None if fine.all() else np.flatnonzero(fine[catalog.kinds]).astype(np.uint32)
