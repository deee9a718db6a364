"""The catalog of a large cache as columns in files that are mapped into memory, and shared by all readers.

They are made once for each state of the manifest, and never changed. A process that opens them reads a note
in JSON; of an entry it reads 32 bytes of numbers, and the text that says what the clip is.

    CACHE/catalog/STATE/
    ├── catalog.json     for each recipe: its number N, how many entries, their shapes and shards
    ├── N.kind           uint32: which of the shapes
    ├── N.shard          uint32: which of the shards, from 1 on; 0 is a file of its own, named by the key
    ├── N.offset         uint64: where the entry begins in the shard
    ├── N.bytes          uint64: how long it is
    ├── N.end            uint64: where the entry's text ends
    └── N.text           JSON: [source, key, facts], one behind the other
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vidlatent.errors import BadInput
from vidlatent.files import naming_disk_errors, naming_read_errors
from vidlatent.folders import FolderReplacement
from vidlatent.jobs.cache.manifest import DONE, Manifest, ManifestRow
from vidlatent.jobs.cache.store import Place, Store
from vidlatent.jobs.readback.entries import CatalogEntry, Shape

NOTE = "catalog.json"
FORMAT, VERSION = "vidlatent-catalog", 1
COLUMNS = {"kind": "<u4", "shard": "<u4", "offset": "<u8", "bytes": "<u8", "end": "<u8"}
_AT_ONCE = 10_000  # entries that are written together
_write_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class MappedEntries:
    """The catalog of one recipe of a cache, read from its columns. Processes share the pages."""

    def __init__(self, store: Store, folder: Path, recipe: str) -> None:
        self._named = store, folder, recipe
        self._store, told = store, read_note(folder)[recipe]
        self._shards: list[str] = told["shards"]
        self.shapes: list[Shape] = [tuple(shape) for shape in told["shapes"]]  # type: ignore[misc]
        number, count = told["number"], told["count"]
        columns = {name: _map(folder / f"{number}.{name}", kind, count) for name, kind in COLUMNS.items()}
        self.kinds = columns["kind"]
        self._shard, self._offset = columns["shard"], columns["offset"]
        self._bytes, self._end = columns["bytes"], columns["end"]
        self._text = _map(folder / f"{number}.text", "u1", int(self._end[-1]))

    def __reduce__(self) -> tuple:
        return MappedEntries, self._named

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, number: int) -> CatalogEntry:
        begin = int(self._end[number - 1]) if number else 0
        source, key, facts = json.loads(self._text[begin : int(self._end[number])].tobytes())
        place = self._place(number, key)
        return CatalogEntry(place.file, self.shapes[self.kinds[number]], source, key, place.part, facts)

    def _place(self, number: int, key: str) -> Place:
        shard = int(self._shard[number])
        if not shard:
            nbytes = int(self._bytes[number])
            return Place(self._store.entry_path(key), home=self._store.home, nbytes=nbytes)
        part = int(self._offset[number]), int(self._bytes[number])
        return Place(self._store.shards / self._shards[shard - 1], part, self._store.home)

    def by_shard(self) -> dict[str, np.ndarray]:
        """Entries that are files of their own are in no shard; of several clips of one entry the first is."""
        order = np.lexsort((self._offset, self._shard))  # which leaves equals in their order
        shards, offsets = self._shard[order], self._offset[order]
        first = np.append(True, (np.diff(shards) != 0) | (np.diff(offsets) != 0)) & (shards != 0)
        order, shards = order[first], shards[first]
        ends = np.flatnonzero(np.diff(shards)) + 1
        groups = np.split(order, ends) if len(order) else []
        named = (self._shards[int(self._shard[group[0]]) - 1] for group in groups)
        home, folder = self._store.home, self._store.shards
        return {home.at(folder / name).url: group for name, group in zip(named, groups, strict=True)}


def _map(path: Path, kind: str, count: int) -> np.ndarray:
    """A column, which must be as long as was written down."""
    with naming_read_errors(path):
        if path.stat().st_size != count * np.dtype(kind).itemsize:
            raise _blame(path, f"expected {count} values of {kind}, found {path.stat().st_size} bytes")
        return np.memmap(path, kind, "r")


def read_note(folder: Path) -> dict[str, dict]:
    """What there is of each recipe; raises BadInput where the note is damaged."""
    path = folder / NOTE
    try:
        with naming_read_errors(path):
            told = json.loads(path.read_bytes())
        if (told["format"], told["version"]) != (FORMAT, VERSION):
            raise ValueError(f"version {told['version']}, this vidlatent reads {VERSION}")
        return told["recipes"]
    except (ValueError, KeyError, TypeError) as e:
        raise _blame(path, str(e)) from e


def _blame(path: Path, why: str) -> BadInput:
    return BadInput(f"{path}: damaged ({why})", f"remove the folder {path.parent}, which is made again")


class _Writer:
    """Writes the columns of one recipe, a bundle of entries at a time."""

    def __init__(self, folder: Path, number: int, opened: ExitStack) -> None:
        self._number = number
        paths = {name: folder / f"{number}.{name}" for name in (*COLUMNS, "text")}
        self._files: dict[str, BinaryIO] = {
            name: opened.enter_context(path.open("wb")) for name, path in paths.items()
        }
        self._held: dict[str, list[int]] = {name: [] for name in COLUMNS}
        self._shapes: dict[Shape, int] = {}
        self._shards: dict[str, int] = {}
        self._count = self._end = 0

    def add(self, row: ManifestRow, place: Place) -> None:
        """Write one entry."""
        shape = row.shape or place.open().shape
        text = _write_json([row.source, row.key, row.facts]).encode()
        self._files["text"].write(text)
        self._end += len(text)
        offset, nbytes = place.part or (0, row.bytes)
        shard = self._shards.setdefault(place.path.name, len(self._shards) + 1) if place.part else 0
        kind = self._shapes.setdefault(shape, len(self._shapes))
        for name, value in zip(COLUMNS, (kind, shard, offset, nbytes, self._end), strict=True):
            self._held[name].append(value)
        self._count += 1
        if self._count % _AT_ONCE == 0:
            self._write_held()

    def _write_held(self) -> None:
        for name, values in self._held.items():
            self._files[name].write(np.array(values, COLUMNS[name]).tobytes())
            values.clear()

    def finish(self) -> dict[str, object]:
        """Write the rest; what the note says of the columns."""
        self._write_held()
        return {
            "number": self._number,
            "count": self._count,
            "shapes": list(self._shapes),
            "shards": list(self._shards),
        }


def write_columns(manifest: Manifest, folder: Path) -> dict[str, int]:
    """Make the catalog of a cache in `folder`, whole or not at all; how many entries of each recipe."""
    replacement = FolderReplacement(folder)
    writers: dict[str, _Writer] = {}
    try:
        with naming_disk_errors(folder), ExitStack() as opened:
            for row, place in list_present(manifest):
                if row.recipe not in writers:
                    writers[row.recipe] = _Writer(replacement.partial, len(writers), opened)
                writers[row.recipe].add(row, place)
            recipes = {recipe: writer.finish() for recipe, writer in sorted(writers.items())}
            note = {"format": FORMAT, "version": VERSION, "recipes": recipes}
            (replacement.partial / NOTE).write_text(json.dumps(note))
        replacement.commit()
    except BaseException:
        replacement.discard()
        raise
    return {recipe: told["count"] for recipe, told in recipes.items()}  # type: ignore[misc]


def make_entry(row: ManifestRow, place: Place) -> CatalogEntry:
    """What a catalog says of a clip whose entry lies at a place."""
    shape = row.shape or place.open().shape
    return CatalogEntry(place.file, shape, row.source, row.key, place.part, row.facts)


def list_present(manifest: Manifest) -> Iterator[tuple[ManifestRow, Place]]:
    """The clips whose entries are there, in order, and where those lie."""
    for row in manifest.rows():
        if row.status == DONE and (place := manifest.place(row)).holds(row.bytes):
            yield row, place
