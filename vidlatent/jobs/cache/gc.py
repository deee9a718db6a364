"""What lies in a cache and is of no more use; nothing is ever removed but by `cache gc`, which asks."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vidlatent.files import PARTIAL
from vidlatent.jobs.cache.claims import Claim
from vidlatent.jobs.cache.manifest import DONE, Manifest
from vidlatent.jobs.cache.store import Store


@dataclass(frozen=True)
class Garbage:
    """A file, why it may go, and its size."""

    path: Path
    why: str
    bytes: int


def garbage(root: Path, superseded: bool = False) -> list[Garbage]:
    """Leftovers of killed runs and entries without a row; with `superseded` also entries of former sources.

    An entry is superseded where every clip it was made of has an entry with another key by now, by the same
    recipe: the file under that name has changed. Only files of a cache's own kind are looked at.
    """
    store = Store.open(root)
    manifest = Manifest(store)
    wanted = {row.key for row in manifest.rows() if row.status == DONE}
    known = {row.key for row in manifest.entries() if row.status == DONE}
    found = [_item(path, "left by a run that was killed") for path in _leftovers(store)]
    for path in sorted(store.objects.glob("??/*.latent")):
        if path.stem not in known:
            found.append(_item(path, "no row of the manifest knows it"))
        elif superseded and path.stem not in wanted:
            found.append(_item(path, "its source has changed, and was cached again"))
    return found


def remove(root: Path, items: list[Garbage]) -> int:
    """Remove files, except those that another process is working on; returns the bytes freed."""
    store, freed = Store.open(root), 0
    for item in items:
        key = item.path.name.lstrip(".").split(".", 1)[0]
        claim = Claim.take(store.claims / key)
        if claim is None:
            continue
        with claim:
            item.path.unlink(missing_ok=True)
            freed += item.bytes
    return freed


def _leftovers(store: Store) -> Iterator[Path]:
    """Partial files, and claims that nobody holds."""
    yield from sorted(store.objects.glob(f"??/.*{PARTIAL}"))
    yield from (path for path in sorted(store.claims.glob("*")) if _is_free(path))


def _is_free(path: Path) -> bool:
    claim = Claim.take(path)
    if claim is not None:
        claim.close()
    return claim is not None


def _item(path: Path, why: str) -> Garbage:
    try:
        return Garbage(path, why, os.stat(path).st_size)
    except FileNotFoundError:  # finished in this moment
        return Garbage(path, why, 0)
