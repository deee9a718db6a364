"""What lies in a cache and is of no use any more. Only `cache gc` removes anything, and it asks first."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vidlatent.files import PARTIAL
from vidlatent.jobs.cache.claims import Claim
from vidlatent.jobs.cache.manifest import DONE, Manifest
from vidlatent.jobs.cache.packer import PACK, is_packed
from vidlatent.jobs.cache.store import Store


@dataclass(frozen=True)
class Garbage:
    """A file that may go: why, and its size."""

    path: Path
    why: str
    bytes: int


def find_garbage(root: Path, superseded: bool = False) -> list[Garbage]:
    """Leftovers of killed runs, entries without a row, and files of entries that lie in a shard as well.

    With `superseded` also entries whose sources have changed since. An entry is superseded where every clip
    it was made of has an entry with another key by now, by the same recipe: the file under that name has
    changed. A shard goes as a whole, or stays. Only files of a cache's own kind are looked at.
    """
    store = Store.open(root)
    manifest = Manifest(store)
    wanted = {row.key for row in manifest.rows() if row.status == DONE}
    known = {row.key for row in manifest.entries() if row.status == DONE}
    found = [_make_item(path, "left by a run that was killed") for path in _find_leftovers(store)]
    found += [
        _make_item(path, "no row of the manifest knows it") for path in _find_unneeded(store, manifest, known)
    ]
    found += [_make_item(path, f"the same is in {shard}") for path, shard in _find_doubles(store, manifest)]
    if superseded:
        listed = {item.path for item in found}
        former = (path for path in _find_unneeded(store, manifest, wanted) if path not in listed)
        found += [_make_item(path, "its source has changed, and was cached again") for path in former]
    return found


def _find_doubles(store: Store, manifest: Manifest) -> Iterator[tuple[Path, str]]:
    """Files of entries that lie in a shard, too: a run was killed before it removed them."""
    for path in sorted(store.objects.glob("??/*.latent")):
        row, packed = manifest.find(path.stem), manifest.find_shard(path.stem)
        if row is not None and packed is not None and is_packed(store, manifest, row):
            yield path, packed.shard


def _find_unneeded(store: Store, manifest: Manifest, keys: set[str]) -> Iterator[Path]:
    """Files of entries that are not among `keys`, and shards that hold none of them."""
    yield from (path for path in sorted(store.objects.glob("??/*.latent")) if path.stem not in keys)
    packed = (manifest.find_shard(key) for key in keys)
    needed = {Path(row.shard).stem for row in packed if row is not None}
    yield from (path for path in sorted(store.shards.glob("shard-*")) if path.stem not in needed)


def remove_garbage(root: Path, items: list[Garbage], superseded: bool = False) -> int:
    """Remove files, but none that another process works on, or needs by now; returns the bytes freed."""
    store, freed = Store.open(root), 0
    still = {item.path for item in find_garbage(root, superseded)}  # the user may have taken long to agree
    for item in items:
        if item.path not in still:
            continue
        claim = Claim.take(store.claims / _name_claim(store, item.path))
        if claim is None:
            continue
        with claim:
            item.path.unlink(missing_ok=True)
            freed += item.bytes
    return freed


def _name_claim(store: Store, path: Path) -> str:
    """The name of the claim that a process holds while it makes this file."""
    return PACK if path.parent == store.shards else path.name.lstrip(".").split(".", 1)[0]


def _find_leftovers(store: Store) -> Iterator[Path]:
    """Partial files, and files of claims that nobody holds."""
    yield from sorted(store.objects.glob(f"??/.*{PARTIAL}"))
    yield from sorted(store.shards.glob(f".*{PARTIAL}"))
    yield from (path for path in sorted(store.claims.glob("*")) if _is_free(path))


def _is_free(path: Path) -> bool:
    claim = Claim.take(path)
    if claim is not None:
        claim.close()
    return claim is not None


def _make_item(path: Path, why: str) -> Garbage:
    try:
        return Garbage(path, why, os.stat(path).st_size)
    except FileNotFoundError:  # finished in this moment
        return Garbage(path, why, 0)
