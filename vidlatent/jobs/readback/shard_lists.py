"""The shards that a stream reads, and which clips lie in each of them.

A shard on a disk says so itself. Of a cache in a store its manifest does: of the shards nothing but the clips
is fetched.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from vidlatent.errors import BadInput
from vidlatent.io.sources.ranges import StoredFile
from vidlatent.io.sources.urls import Address, Root
from vidlatent.jobs.readback.catalog import SHARDS, catalog, find_shards, is_cache
from vidlatent.jobs.readback.entries import Catalog, CatalogEntry
from vidlatent.jobs.readback.mapped import list_catalogs


class Shard(Protocol):
    """A shard, by the name of its file."""

    @property
    def path(self) -> Path | StoredFile:
        """Where it lies."""
        ...

    def list(self) -> Sequence[CatalogEntry]:
        """Its clips, in the order in which they lie in it."""
        ...

    def count(self, least: int) -> int:
        """How many of them have at least so many latent frames."""
        ...


@dataclass(frozen=True)
class ShardFile:
    """A shard on a disk."""

    path: Path

    def list(self) -> Sequence[CatalogEntry]:
        """As the shard says."""
        (entries,) = catalog(self.path)
        return entries  # type: ignore[return-value]

    def count(self, least: int) -> int:
        """All are looked at."""
        return sum(entry.shape[0] >= least for entry in self.list())


@dataclass(frozen=True)
class ShardOfCache:
    """A shard of a cache in a store: the clips of these `numbers` in a catalog lie in it."""

    path: StoredFile
    entries: Catalog
    numbers: np.ndarray

    def list(self) -> Sequence[CatalogEntry]:
        """As the catalog says."""
        return [self.entries[int(number)] for number in self.numbers]

    def count(self, least: int) -> int:
        """As the catalog says: no clip is looked at."""
        fine = np.array([shape[0] >= least for shape in self.entries.shapes], bool)
        return int(fine[self.entries.kinds[self.numbers]].sum())


def list_shards(places: Sequence[Root]) -> list[Shard]:
    """The shards of caches, folders, and single ones, by name; raises BadInput where there are none."""
    found = sorted((shard for place in places for shard in _find(place)), key=lambda shard: str(shard.path))
    if not found:
        raise BadInput(f"{', '.join(map(str, places))}: no shards ({', '.join(SHARDS)})")
    return found


def _find(place: Root) -> Iterator[Shard]:
    if isinstance(place, Path):
        yield from map(ShardFile, find_shards(place))
        return
    if not is_cache(place):
        raise BadInput(f"{place}: no cache", "of what lies in stores only caches are read")
    yield from _find_stored(place)


def _find_stored(place: Address) -> Iterator[ShardOfCache]:
    for entries in list_catalogs(place):
        for url, numbers in entries.by_shard().items():
            yield ShardOfCache(StoredFile(url), entries, numbers)
