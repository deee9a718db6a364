"""Finds the latents to train on: in caches, folders of `.latent` files, and shards."""

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from vidlatent.errors import BadInput
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.sources.stores import find_object
from vidlatent.io.sources.urls import Address, Root, parse_root
from vidlatent.io.tar import TarMember, list_tar, open_tar
from vidlatent.jobs.cache.manifest import Manifest
from vidlatent.jobs.cache.shard_safetensors import index_path, list_safetensors, read_index
from vidlatent.jobs.cache.store import MARKER, Store
from vidlatent.jobs.readback.columns import make_entry
from vidlatent.jobs.readback.entries import Catalog, CatalogEntry, ListedEntries
from vidlatent.jobs.readback.mapped import open_mapped
from vidlatent.jobs.readback.plain_shards import belongs_to_index, list_tensors

_MOST_ROW_BYTES = 1 << 26
_AXES = 4  # of latents: t, C, h, w
Places = Root | str | Iterable[Root | str]  # caches, folders, `.latent` files, shards: one or several


def catalog(places: Places, recipe: str | None = None) -> list[Catalog]:
    """Every clip in caches, folders of `.latent`, `.latent` files and shards, in a fixed order.

    Of a cache with several recipes `recipe` names the one to take (see `vidlatent cache status`).
    """
    return [_open_catalog(place, recipe) for place in list_places(places)]


def list_places(places: Places) -> list[Root]:
    """One place or several, each as a path or as the address of a store."""
    return list(map(parse_root, [places] if isinstance(places, (str, Path, Address)) else places))


def is_cache(place: Root) -> bool:
    """Whether a cache lies at a place."""
    if isinstance(place, Path):
        return (place / MARKER).exists()
    return find_object(f"{place.url}/{MARKER}") is not None


def _open_catalog(place: Root, recipe: str | None) -> Catalog:
    if is_cache(place) and (mapped := open_mapped(place, recipe)) is not None:
        return mapped
    return ListedEntries(_list_entries(place, recipe))


def _list_entries(place: Root, recipe: str | None) -> Iterator[CatalogEntry]:
    if is_cache(place):
        yield from list_cache(place, recipe)
    elif isinstance(place, Address):
        raise BadInput(f"{place}: no cache", "of what lies in stores only caches are read")
    elif place.is_dir():
        found = sorted(p for p in place.rglob("*") if p.is_file() and (p.suffix == ".latent" or is_shard(p)))
        if not found:
            raise BadInput(f"{place}: no cache, and no .latent or {' or '.join(SHARDS)} in it")
        for path in found:
            yield from _list_entries(path, recipe)
    elif place.suffix in SHARDS:
        yield from SHARDS[place.suffix](place)
    else:
        with open_latent(place) as latents:
            yield CatalogEntry(place, latents.shape, latents.header.source.file or place.name)


def list_cache(root: Root, recipe: str | None = None) -> Iterator[CatalogEntry]:
    """The clips of a cache whose entries are there; raises UsageError where recipes would be mixed."""
    manifest = Manifest(Store.open(root))
    for row in manifest.present_rows(recipe):
        yield make_entry(row, manifest.place(row))


def list_tar_shard(path: Path) -> Iterator[CatalogEntry]:
    """The clips of a shard of kind tar: KEY.latent, and KEY.json with the clip's row."""
    rows: dict[str, dict] = {}
    latents: dict[str, TarMember] = {}
    try:
        with open_tar(path) as tar:
            for member in list_tar(tar):
                key, _, suffix = member.name.rpartition(".")
                if suffix in ("latent", "json") and member.fault is not None:
                    raise ValueError(f"{member.name}: {member.fault}")
                if suffix == "latent":
                    latents[key] = member
                elif suffix == "json":
                    rows[key] = _read_row(tar, member)
    except (OSError, ValueError) as e:
        raise BadInput(
            f"{path}: not a shard of latents ({e})", "make shards with `vidlatent cache export`"
        ) from e
    for key, member in latents.items():
        yield _make_shard_entry(path, key, (member.offset, member.size), rows.get(key, {}))


def _read_row(tar: BinaryIO, member: TarMember) -> dict:
    """The row of the manifest that a member holds; raises ValueError where it holds anything else."""
    if member.size > _MOST_ROW_BYTES:
        raise ValueError(f"{member.name}: a row of {member.size:,} bytes")
    try:
        row = json.loads(member.read(tar))
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{member.name}: not JSON ({e})") from e
    if not isinstance(row, dict):
        raise ValueError(f"{member.name}: no row of a manifest")
    return row


def list_safetensors_shard(path: Path) -> Iterator[CatalogEntry]:
    """The clips of a shard of kind safetensors: of a cache, or exported as plain tensors."""
    if not index_path(path).exists() and belongs_to_index(path):
        for name, part, tensor, row in list_tensors(path):
            source, key = (
                found if isinstance(found := row.get(word), str) else name for word in ("source", "key")
            )
            facts = found if isinstance(found := row.get("facts"), Mapping) else {}
            yield CatalogEntry(path, tensor.shape, source, key, part, facts, tensor)
        return
    parts = list_safetensors(path)
    try:
        rows = read_index(index_path(path))
    except BadInput as e:  # latents tell their shape themselves; what is lost are the clips' names and facts
        warnings.warn(f"{e.what}: clips are called by their keys", stacklevel=2)
        rows = {}
    for key, part in parts.items():
        yield _make_shard_entry(path, key, part, rows.get(key, {}))


def _make_shard_entry(path: Path, key: str, part: tuple[int, int], row: Mapping) -> CatalogEntry:
    told, facts, source = row.get("shape"), row.get("facts"), row.get("source")
    known = isinstance(told, list) and len(told) == _AXES and all(type(n) is int and n > 0 for n in told)
    shape = tuple(told) if known else open_latent(path, part).shape
    facts = facts if isinstance(facts, Mapping) else {}
    return CatalogEntry(path, shape, source if isinstance(source, str) else key, key, part, facts)


SHARDS = {".tar": list_tar_shard, ".safetensors": list_safetensors_shard}


def is_shard(path: Path) -> bool:
    """Whether a file is a shard. Of safetensors files it is one that has an index beside it."""
    indexed = path.suffix == ".safetensors" and (index_path(path).exists() or belongs_to_index(path))
    return path.suffix == ".tar" or indexed


def find_shards(place: Path) -> list[Path]:
    """The shards of a cache or a folder; a file is taken for a shard itself."""
    if not place.is_dir():
        return [place]
    folder = Store(place).shards if (place / MARKER).exists() else place
    return sorted(filter(is_shard, folder.glob("*")))
