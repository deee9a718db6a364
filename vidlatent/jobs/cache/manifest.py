"""The manifest: what became of every clip, a row each. What it does not say is not in the cache."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from heapq import merge
from itertools import groupby
from operator import attrgetter, itemgetter

from vidlatent.errors import UsageError, parameter
from vidlatent.io.sources.urls import Root
from vidlatent.jobs.cache.journal import JournalReader
from vidlatent.jobs.cache.row_checks import check_fields, check_name, check_one_of
from vidlatent.jobs.cache.snapshot import Kind, Snapshot, find_newest, open_snapshot
from vidlatent.jobs.cache.store import Place, Store

DONE, FAILED, SKIPPED, DAMAGED = "done", "failed", "skipped", "damaged"
REPLACED = "replaced"  # by an entry in another form
OF_CLIP = (
    "source",
    "recipe",
    "span",
    "read",
    "facts",
    "source_sha256",
    "first_frame",
)  # of the clip, not of the entry
_AXES = 4  # of latents: t, C, h, w
_RANK = {SKIPPED: 0, DAMAGED: 1, FAILED: 1, REPLACED: 1, DONE: 2}  # which of two rows of one attempt counts


@dataclass(slots=True)  # millions are made and held; frozen, making one would take five times as long
class ManifestRow:
    """What became of one clip. Of a clip's rows the one with the highest `attempt` counts.

    `source` is the file's absolute path (a tar member: TAR::MEMBER), `span` is [start, end, frames] where
    only a part is meant, `recipe` names a file of the cache's recipes folder. `key` is empty where the
    source could not even be read. `frames` are those of the clip as it was encoded, `cut` those that were
    left out at its end to fit the model's grid; `first_frame` is the number of the first in the video, as far
    as its header tells. `checksum` is the sha256 of the entry's file, `bytes` its size, `shape`
    that of the latents, [t, C, h, w], `dtype` what they are read as; `form` names the form in which they are
    stored, empty for such floats themselves, and `price` says what was measured of those that are packed;
    `shard` and `offset` say where the entry lies once it is packed (see `Manifest.place`); `read` holds the
    options it was read with, `threads` of the CPU that the model had (0: a GPU); `at` is unix time.
    """

    source: str
    status: str
    key: str = ""
    recipe: str = ""
    span: tuple[str | int | None, ...] = (None, None, None)
    source_sha256: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = ""
    form: str = ""
    price: Mapping[str, object] = field(default_factory=dict)
    frames: int = 0
    cut: int = 0
    first_frame: int = 0
    width: int = 0
    height: int = 0
    bytes: int = 0
    checksum: str = ""
    shard: str = ""
    offset: int = 0
    seconds: float = 0.0
    error: str | None = None
    notices: tuple[str, ...] = ()
    read: Mapping[str, object] = field(default_factory=dict)
    model: str = ""
    threads: int = 0
    facts: Mapping[str, object] = field(default_factory=dict)
    attempt: int = 1
    at: float = 0.0

    @property
    def clip(self) -> tuple:
        """What the row is about: a file, a span of it, and a recipe."""
        return self.source, self.span, self.recipe

    @property
    def is_left_out(self) -> bool:
        """Whether the recipe leaves this clip out; other files that are skipped are no videos."""
        return self.status == SKIPPED and bool(self.source_sha256)

    def says_the_same_as(self, other: "ManifestRow | None") -> bool:
        """Whether another row of the clip says the same, whenever it was written."""
        same = ("status", "key", "error", "facts", "checksum", "shard", "offset", "first_frame")
        return other is not None and all(getattr(self, name) == getattr(other, name) for name in same)

    @classmethod
    def parse(cls, record: Mapping) -> "ManifestRow":
        """A row from its record in a journal; raises ValueError where it is none.

        Fields that a later version has added are left out.
        """
        row = cls(**check_fields(cls, record))  # type: ignore[arg-type]
        check_one_of("status", row.status, _RANK)
        check_name("key", row.key)
        check_name("shard", row.shard)
        if len(row.span) != 3:
            raise ValueError(f"span: expected 3 values, got {row.span!r:.80}")
        if row.shape and (set(map(type, row.shape)) != {int} or min(row.shape) < 1):  # type: ignore
            raise ValueError(f"shape: expected whole numbers above 0, got {row.shape!r:.80}")
        if row.status == DONE and len(row.shape) not in (0, _AXES):
            raise ValueError(f"shape: expected {_AXES} numbers, got {row.shape!r:.80}")
        return row

    def _order(self) -> tuple:
        return self.attempt, _RANK[self.status], self.at


FIELDS = tuple(f.name for f in fields(ManifestRow))
_TUPLES = tuple(number for number, f in enumerate(fields(ManifestRow)) if isinstance(f.default, tuple))


def _unpack(values: list) -> ManifestRow:
    for number in _TUPLES:
        values[number] = tuple(values[number])
    return ManifestRow(*values)


ROWS = Kind(
    fields=FIELDS,
    parse=ManifestRow.parse,
    pack=lambda row: list(attrgetter(*FIELDS)(row)),
    unpack=_unpack,
    name=lambda row: name_clip(row.clip),
    key=attrgetter("key"),
    order=ManifestRow._order,
    packed=lambda row: bool(row.shard),
    done=lambda row: row.status == DONE,
)  # rows in a snapshot


def name_clip(clip: tuple) -> str:
    """The name by which a clip is searched for, and in whose order rows come."""
    return str(clip)


class Manifest:
    """All rows of a cache, those of other processes too, and the journal that this process writes.

    Rows that were folded into a snapshot are searched there; those that are younger are held in memory.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._journal = store, store.home.open_journal(store.manifest)
        store.home.pull(store.manifest)
        self._load()

    def _load(self) -> None:
        """Begin with the newest snapshot, and read what is younger."""
        self._snapshot = open_snapshot(self._store.manifest, ROWS)
        self._journals = JournalReader(self._store.manifest, self._snapshot.folded)
        self._clips: dict[str, ManifestRow] = {}
        self._keys: dict[str, ManifestRow] = {}
        self._packed: dict[str, ManifestRow] = {}  # the last row that names a shard
        self._first: dict[str, str] = {}  # of the clips that an entry was made for, the first by name
        self._searched: tuple[str, list[tuple[ManifestRow, bool]]] = (
            "",
            [],
        )  # the last key, as many ask twice
        self._read_new()

    def refresh(self) -> int:
        """Read the rows that other processes have written since the last call, and return their number."""
        self._store.home.pull(self._store.manifest)
        return self._read_new()

    def _read_new(self) -> int:
        count = 0
        for record in self._journals.read_new():
            with suppress(ValueError):  # `cache verify` names what is no row
                self._take(ManifestRow.parse(record))
                count += 1
        if find_newest(self._store.manifest) > self._snapshot.number:
            self._load()  # journals that were folded may have grown before they were put away
            count += 1
        return count

    def add(self, row: ManifestRow) -> ManifestRow:
        """Write down what became of a clip, unless its last row says the same.

        On a disk it is durable once this returns, in a store with the next part of the journal.
        """
        known = self._find_clip(name_clip(row.clip))
        if row.says_the_same_as(known):
            return known  # type: ignore[return-value]
        (row,) = self._append([row])
        return row

    def add_packed(self, where: Mapping[str, int], shard: str) -> None:
        """Write down that entries lie in a shard now, each key at an offset. Durable once it returns."""
        self._append([replace(self.find(key), shard=shard, offset=where[key]) for key in where])
        self._journal.flush()

    def add_damaged(self, row: ManifestRow, what: str) -> None:
        """Write down that an entry is no longer what it was, in its own file or in its shard."""
        packed = self._find_packed(row.key) or row
        row = replace(row, status=DAMAGED, error=what, shard=packed.shard, offset=packed.offset)
        self._append([row])
        self._journal.flush()

    def replace_rows(self, old: Sequence[ManifestRow], new: Sequence[ManifestRow]) -> None:
        """Write down that clips have other entries now, which are there. Durable once it returns."""
        gone = (self._find_packed(row.key) or row for row in old)
        replaced = [
            replace(row, status=REPLACED, shard=packed.shard, offset=packed.offset)
            for row, packed in zip(old, gone, strict=True)
        ]
        self._append([*new, *replaced])
        self._journal.flush()

    def _append(self, rows: list[ManifestRow]) -> list[ManifestRow]:
        at = round(time.time(), 3)
        rows = [replace(row, attempt=self._next_attempt(row), at=at) for row in rows]
        self._journal.append(*map(asdict, rows))
        for row in rows:
            self._take(row)
        return rows

    def _next_attempt(self, row: ManifestRow) -> int:
        before = (self._find_clip(name_clip(row.clip)), self.find(row.key))
        return 1 + max((known.attempt for known in before if known is not None), default=0)

    def find(self, key: str) -> ManifestRow | None:
        """The last row about an entry; None where there is none."""
        found = [row for row, _ in self._search(key)]
        if key in self._keys:
            found.append(self._keys[key])
        return _last(found)

    def _find_clip(self, name: str) -> ManifestRow | None:
        """The last row about a clip; None where there is none."""
        found = self._snapshot.find_name(name)
        if name in self._clips:
            found.append(self._clips[name])
        return _last(found)

    def _find_packed(self, key: str) -> ManifestRow | None:
        """The last row that names a shard of an entry; None where there is none."""
        found = [row for row, _ in self._search(key) if row.shard]
        if key in self._packed:
            found.append(self._packed[key])
        return _last(found)

    def _search(self, key: str) -> list[tuple[ManifestRow, bool]]:
        """What the snapshot says of a key, and whether an entry was ever made for the clip of each row."""
        if not key:
            return []
        if self._searched[0] != key:
            self._searched = key, self._snapshot.find_key(key)
        return self._searched[1]

    def retell_of_first_clip(self, row: ManifestRow) -> ManifestRow:
        """The row, told of the first clip by name that has this entry, not of the one that came last."""
        names = [name_clip(found.clip) for found, done in self._search(row.key) if done]
        first = self._find_clip(min((*names, *filter(None, [self._first.get(row.key)])), default=""))
        if first is None or (first.key, first.status) != (row.key, DONE):
            return row
        return replace(row, **{name: getattr(first, name) for name in OF_CLIP})

    def place(self, row: ManifestRow) -> Place:
        """Where the entry of a row lies: in a file of its own, else in the shard that was named last."""
        loose, shard, home = self._store.entry_path(row.key), self.find_shard(row.key), self._store.home
        if shard is None or home.size(loose) is not None:
            return Place(loose, home=home, nbytes=row.bytes or None)
        return Place(self._store.shards / shard.shard, (shard.offset, shard.bytes), home)

    def find_shard(self, key: str) -> ManifestRow | None:
        """The row that says in which shard an entry lies; None where it lies in none, or is damaged there."""
        packed = self._find_packed(key)
        return packed if packed is not None and packed.status == DONE else None

    def is_present(self, row: ManifestRow) -> bool:
        """Whether a finished entry is still there, with as many bytes as it had."""
        return row.status == DONE and self.place(row).holds(row.bytes)

    def rows(self) -> Iterator[ManifestRow]:
        """The last row of every clip, in the order of their names; of repacked ones that of the new entry.

        They come one after the other, so that memory does not grow with their number. What the snapshot
        says of a key is held while its row is looked at, and need not be searched for.
        """
        snapshot, young = self._snapshot, self._clips
        new = ((name, young[name], None) for name in sorted(young))
        for _, same in groupby(merge(snapshot.by_name(), new, key=itemgetter(0)), itemgetter(0)):
            told = list(same)
            row = _last([row for _, row, _ in told])  # of equal rows the new one
            if row.status != REPLACED:  # type: ignore[union-attr]
                self._hold(snapshot, row.key, next(found for _, one, found in told if one is row))
                yield row  # type: ignore[misc]

    def _hold(self, snapshot: Snapshot, key: str, found: list[tuple[ManifestRow, bool]] | None) -> None:
        """Remember what a snapshot says of a key, unless it is told by a later one by now."""
        if found is not None and snapshot is self._snapshot:
            self._searched = key, found

    def present_rows(self, recipe: str | None = None) -> list[ManifestRow]:
        """The rows of clips whose entries are there, by one recipe.

        Raises UsageError where there are several recipes and none is named, which would mix their latents.
        """
        rows = [row for row in self.rows() if self.is_present(row)]
        recipe = choose_recipe(self._store.name, {row.recipe for row in rows}, recipe)
        return [row for row in rows if row.recipe == recipe]

    @property
    def count_at_most(self) -> int:
        """How many clips there may be: known without looking at each, so that some may be counted twice."""
        return self._snapshot.count + len(self._clips)

    def entries(self) -> Iterator[ManifestRow]:
        """The last row of every key, in the order of keys, one after the other.

        What the snapshot says of a key is held while its row is looked at, and need not be searched for.
        """
        snapshot, new = self._snapshot, ((key, None) for key in sorted(self._keys))
        for key, same in groupby(merge(snapshot.by_key(), new, key=itemgetter(0)), itemgetter(0)):
            self._hold(snapshot, key, next((found for _, found in same if found is not None), []))
            yield self.find(key)  # type: ignore[misc]

    def flush(self) -> None:
        """Let all rows be there for others, and outlive this process: for a store they may wait."""
        self._journal.flush()

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def _take(self, row: ManifestRow) -> None:
        name = name_clip(row.clip)
        _keep_last(self._clips, name, row)
        if row.key:
            _keep_last(self._keys, row.key, row)
        if row.shard:
            _keep_last(self._packed, row.key, row)
        if row.status == DONE:
            self._first[row.key] = min(self._first.get(row.key, name), name)


def choose_recipe(cache: object, there: Collection[str], recipe: str | None) -> str | None:
    """The recipe to take of those that are there: the one that is named, or the only one.

    Raises UsageError where there are several and none is named, which would mix their latents, and where the
    one that is named is not there.
    """
    if recipe is None and len(there) > 1:
        raise UsageError(
            f"{cache}: holds {len(there)} recipes",
            f"choose one by {parameter('recipe')}: {', '.join(sorted(there))}",
        )
    refuse_unknown_recipe(cache, there, recipe)
    return next(iter(there), None) if recipe is None else recipe


def refuse_unknown_recipe(cache: object, there: Collection[str], recipe: str | None) -> None:
    """Raise UsageError where a recipe is named that has made nothing in the cache."""
    if recipe is not None and recipe not in there:
        known = ", ".join(sorted(there))
        raise UsageError(
            f"{cache}: has nothing of {parameter('recipe')} {recipe}",
            f"it has {known}" if known else "there is nothing in it yet",
        )


def _last(rows: Sequence[ManifestRow]) -> ManifestRow | None:
    """Of rows about one thing the one that counts, of equals the last; None where there is none."""
    if len(rows) > 1:
        return max(reversed(rows), key=ManifestRow._order)
    return rows[0] if rows else None


def _keep_last(rows: dict, name: object, row: ManifestRow) -> None:
    if name not in rows or rows[name]._order() <= row._order():
        rows[name] = row


def open_manifest(root: Root) -> Manifest:
    """The manifest of the cache at `root`."""
    return Manifest(Store.open(root))
