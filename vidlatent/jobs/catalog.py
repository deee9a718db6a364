"""Where latents lie that can be trained on: a cache, a folder of `.latent` files, WebDataset shards."""

import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vidlatent.errors import BadInput
from vidlatent.io.latent_file import LatentReader, open_latent
from vidlatent.jobs.cache.entry import present
from vidlatent.jobs.cache.manifest import Manifest
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
        """Open the latents."""
        return open_latent(self.path, self.part)


def catalog(places: Path | str | Iterable[Path | str], recipe: str | None = None) -> list[Entry]:
    """Every clip in caches, folders of `.latent`, `.latent` files and `.tar` shards, in a fixed order.

    Of a cache with several recipes `recipe` names the one to take (see `vidlatent cache status`).
    """
    if isinstance(places, (str, Path)):
        places = [places]
    return [entry for place in places for entry in _entries(Path(place), recipe)]


def _entries(place: Path, recipe: str | None) -> Iterator[Entry]:
    if (place / MARKER).exists():
        yield from cached(place, recipe)
    elif place.is_dir():
        found = sorted(p for p in place.rglob("*") if p.suffix in (".latent", ".tar") and p.is_file())
        if not found:
            raise BadInput(f"{place}: no cache, and no .latent or .tar in it")
        for path in found:
            yield from _entries(path, recipe)
    elif place.suffix == ".tar":
        yield from in_tar(place)
    else:
        with open_latent(place) as latents:
            yield Entry(place, latents.shape, latents.header.source.file)


def cached(root: Path, recipe: str | None = None) -> Iterator[Entry]:
    """The clips of a cache whose entries are there; raises BadInput where recipes would be mixed."""
    store = Store.open(root)
    rows = [row for row in Manifest(store).rows() if present(store, row)]
    recipes = sorted({row.recipe for row in rows})
    if recipe is None and len(recipes) > 1:
        raise BadInput(f"{root}: holds {len(recipes)} recipes", f"choose one: recipe={recipes[0]!r} …")
    for row in rows:
        if recipe in (None, row.recipe):
            yield Entry(store.entry(row.key), row.shape, row.source, row.key, facts=row.facts)


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
        row, part = rows.get(key, {}), (member.offset_data, member.size)
        shape = tuple(row["shape"]) if "shape" in row else open_latent(path, part).shape
        yield Entry(path, shape, row.get("source", key), key, part, row.get("facts", {}))
