"""Finds the catalog of a large cache that was made before, or makes it: once for all who read the cache."""

import atexit
import shutil
import tempfile
import time
import warnings
from pathlib import Path

from vidlatent.errors import OutOfResources, UsageError
from vidlatent.io.sources.urls import Root
from vidlatent.jobs.cache.manifest import ROWS, Manifest, choose_recipe
from vidlatent.jobs.cache.snapshot import describe_state
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.readback.columns import (
    NOTE,
    MappedEntries,
    list_present,
    make_entry,
    read_note,
    write_columns,
)
from vidlatent.jobs.readback.entries import Catalog, ListedEntries

MANY = 50_000  # rows: fewer are listed in a second or two, and held in memory
_POLL_S = 0.5


def open_mapped(root: Root, recipe: str | None = None) -> Catalog | None:
    """The catalog of a cache from files, made where there is none as the cache is now.

    None where the cache is not large, and has none. Raises UsageError where recipes would be mixed.
    """
    store = Store.open(root)
    if (folder := _open_folder(store)) is None:
        return None
    there = read_note(folder)
    recipe = choose_recipe(store.name, there, recipe)
    return MappedEntries(store, folder, recipe) if recipe in there else ListedEntries([])


def list_catalogs(root: Root) -> list[Catalog]:
    """The catalogs of all recipes of a cache."""
    store = Store.open(root)
    if (folder := _open_folder(store)) is not None:
        return [MappedEntries(store, folder, recipe) for recipe in read_note(folder)]
    present = list_present(Manifest(store))
    return [ListedEntries(make_entry(row, place) for row, place in present)]


def _open_folder(store: Store) -> Path | None:
    """The folder of the catalog, made where it is missing; None of a cache that is not large."""
    folder = find_folder(store)
    store.home.pull(folder)
    if (folder / NOTE).exists():
        return folder
    if Manifest(store).count_at_most < MANY:
        return None
    warnings.warn(f"{store.name}: its catalog is made now, once for all who read it", stacklevel=3)
    return _make_somewhere(store)


def make_catalog(root: Root) -> tuple[Path, dict[str, int]]:
    """Make the catalog of a cache, large or not, unless it is there; its folder, and entries by recipe."""
    folder = _make(Store.open(root))
    return folder, {recipe: told["count"] for recipe, told in read_note(folder).items()}


def find_folder(store: Store) -> Path:
    """Where the catalog lies of the cache as it is now, once it is made."""
    store.home.pull(store.manifest)
    return store.catalogs / describe_state(store.manifest, ROWS)


def _make_somewhere(store: Store) -> Path:
    """Make the catalog; where the cache may not be written, for this process and those that it starts."""
    try:
        return _make(store)
    except (UsageError, OutOfResources):
        place = Path(tempfile.mkdtemp(prefix="vidlatent-catalog-"))
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        write_columns(Manifest(store), place / store.catalogs.name)
        return place / store.catalogs.name


def _make(store: Store) -> Path:
    while (claim := store.take_claim(store.catalogs.name)) is None:
        time.sleep(_POLL_S)  # another process makes it
    with claim:
        folder = find_folder(store)
        store.home.pull(folder)
        if not (folder / NOTE).exists():
            write_columns(Manifest(store), folder)
            for path in sorted(folder.iterdir(), key=lambda path: path.name == NOTE):  # that one last
                store.home.publish(path)
        return folder
