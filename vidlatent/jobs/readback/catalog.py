"""Where latents lie that can be trained on: a cache, a folder of `.latent` files, shards."""

import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vidlatent.errors import BadInput
from vidlatent.io.latent.reader import LatentReader, open_latent
from vidlatent.jobs.cache.manifest import Manifest
from vidlatent.jobs.cache.shard_safetensors import index_path, list_safetensors
from vidlatent.jobs.cache.store import MARKER, Store


@dataclass(frozen=True)
class Entry:
    """One clip's latents: where they are, [t, C, h, w], the clip's name, and what was carried along."""

    path: Path
    shape: tuple[int, int, int, int]
    source: str
    key: str = ""
    part: tuple[int, int] | None = None
    facts: Mapping[str, object] = field(default_factory=dict)

    def open(self) -> LatentReader:
        """Open the latents, through a memory map: crops are copied out of it, and nothing else is read."""
        return open_latent(self.path, self.part, mapped=True)


def catalog(places: Path | str | Iterable[Path | str], recipe: str | None = None) -> list[Entry]:
    """Every clip in caches, folders of `.latent`, `.latent` files and shards, in a fixed order.

    Of a cache with several recipes `recipe` names the one to take (see `vidlatent cache status`).
    """
    if isinstance(places, (str, Path)):
        places = [places]
    return [entry for place in places for entry in _entries(Path(place), recipe)]


def _entries(place: Path, recipe: str | None) -> Iterator[Entry]:
    if (place / MARKER).exists():
        yield from cached(place, recipe)
    elif place.is_dir():
        found = sorted(p for p in place.rglob("*") if p.is_file() and (p.suffix == ".latent" or is_shard(p)))
        if not found:
            raise BadInput(f"{place}: no cache, and no .latent or {' or '.join(SHARDS)} in it")
        for path in found:
            yield from _entries(path, recipe)
    elif place.suffix in SHARDS:
        yield from SHARDS[place.suffix](place)
    else:
        with open_latent(place) as latents:
            yield Entry(place, latents.shape, latents.header.source.file)


def cached(root: Path, recipe: str | None = None) -> Iterator[Entry]:
    """The clips of a cache whose entries are there; raises UsageError where recipes would be mixed."""
    manifest = Manifest(Store.open(root))
    for row in manifest.present_rows(recipe):
        place = manifest.place(row)
        yield Entry(place.path, row.shape, row.source, row.key, place.part, row.facts)


def in_tar(path: Path) -> Iterator[Entry]:
    """The clips of one shard: KEY.latent, and KEY.json with its row."""
    rows: dict[str, dict] = {}
    latents: dict[str, tarfile.TarInfo] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                key, _, suffix = member.name.partition(".")
                if suffix == "latent":
                    latents[key] = member
                elif suffix == "json":
                    rows[key] = json.load(archive.extractfile(member))
    except (tarfile.TarError, OSError, EOFError, ValueError) as e:
        raise BadInput(
            f"{path}: not a shard of latents ({e})", "make shards with `vidlatent cache export`"
        ) from e
    for key, member in latents.items():
        yield _packed(path, key, (member.offset_data, member.size), rows.get(key, {}))


def in_safetensors(path: Path) -> Iterator[Entry]:
    """The clips of one shard that `cache --shards safetensors` made, with its index beside it."""
    parts = list_safetensors(path)
    try:
        rows = json.loads(index_path(path).read_text())["clips"]
    except (OSError, ValueError, KeyError) as e:
        raise BadInput(
            f"{index_path(path)}: cannot be read ({e})", "it belongs to the shard of that name"
        ) from e
    for key, part in parts.items():
        yield _packed(path, key, part, rows.get(key, {}))


def _packed(path: Path, key: str, part: tuple[int, int], row: Mapping) -> Entry:
    shape = tuple(row["shape"]) if "shape" in row else open_latent(path, part).shape
    return Entry(path, shape, row.get("source", key), key, part, row.get("facts", {}))


SHARDS = {".tar": in_tar, ".safetensors": in_safetensors}


def is_shard(path: Path) -> bool:
    """Whether a file is a shard, by its name: of all kinds of safetensors files ours have an index."""
    return path.suffix == ".tar" or (path.suffix == ".safetensors" and index_path(path).exists())


def shards_in(place: Path) -> list[Path]:
    """The shards of a cache or a folder; a file is one itself."""
    if not place.is_dir():
        return [place]
    folder = Store(place).shards if (place / MARKER).exists() else place
    return sorted(filter(is_shard, folder.glob("*")))
