"""The manifest: what became of every clip, one row each, the only truth about a cache."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from vidlatent.jobs.cache.journal import Journal, records
from vidlatent.jobs.cache.store import Store

DONE, FAILED, SKIPPED, DAMAGED = "done", "failed", "skipped", "damaged"
_RANK = {SKIPPED: 0, DAMAGED: 1, FAILED: 1, DONE: 2}  # of two rows of one attempt


@dataclass(frozen=True, slots=True)  # millions of them are held
class Row:
    """What became of one clip. Of a clip's rows the one with the highest `attempt` counts.

    `source` is the file's absolute path (a tar member: TAR::MEMBER), `span` is [start, end, frames] where
    only a part is meant, `recipe` names a file of the cache's recipes folder. `key` is empty where the
    source could not even be read. `checksum` is the sha256 of the entry's file, `bytes` its size, `shape`
    that of the latents, [t, C, h, w]; `read` holds the options it was read with, `threads` of the CPU that
    the model had (0: a GPU); `at` is unix time.
    """

    source: str
    status: str
    key: str = ""
    recipe: str = ""
    span: tuple[str | int | None, ...] = (None, None, None)
    source_sha256: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = ""
    frames: int = 0
    width: int = 0
    height: int = 0
    bytes: int = 0
    checksum: str = ""
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
        """What the row is about: a file, which part of it, and by which recipe."""
        return self.source, self.span, self.recipe

    def says_as(self, other: "Row | None") -> bool:
        """Whether another row of the clip says the same."""
        same = ("status", "key", "error", "facts", "checksum")
        return other is not None and all(getattr(self, name) == getattr(other, name) for name in same)

    @classmethod
    def parse(cls, record: Mapping) -> "Row":
        """A row from its line; fields that later versions add are left out."""
        known = {f.name: record[f.name] for f in fields(cls) if f.name in record}
        for name in ("span", "shape", "notices"):
            known[name] = tuple(known.get(name) or ())
        return cls(**known)

    def _order(self) -> tuple:
        return self.attempt, _RANK[self.status], self.at


class Manifest:
    """All rows of a cache, merged, and the journal of this process."""

    def __init__(self, store: Store) -> None:
        self._folder = store.manifest
        self._journal = Journal(store.manifest)
        self.reload()

    def reload(self) -> None:
        """Read what everybody wrote."""
        self._clips: dict[tuple, Row] = {}
        self._keys: dict[str, Row] = {}
        for record in records(self._folder):
            self._take(Row.parse(record))

    def add(self, row: Row) -> Row:
        """Write down what became of a clip, unless that is known; durable once it returns."""
        known = self._clips.get(row.clip)
        if row.says_as(known):
            return known  # type: ignore[return-value]
        before = [r.attempt for r in (known, self._keys.get(row.key)) if r is not None]
        row = replace(row, attempt=1 + max(before, default=0), at=round(time.time(), 3))
        self._journal.append(asdict(row))
        self._take(row)
        return row

    def of_key(self, key: str) -> Row | None:
        """The last word about an entry."""
        return self._keys.get(key)

    def rows(self) -> Iterator[Row]:
        """The last row of every clip, in the order of their names."""
        return (self._clips[clip] for clip in sorted(self._clips, key=str))

    def entries(self) -> Iterator[Row]:
        """The last row of every key, in the order of keys."""
        return (self._keys[key] for key in sorted(self._keys))

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def _take(self, row: Row) -> None:
        _keep(self._clips, row.clip, row)
        if row.key:
            _keep(self._keys, row.key, row)


def _keep(rows: dict, name: object, row: Row) -> None:
    if name not in rows or rows[name]._order() <= row._order():
        rows[name] = row


def open_manifest(root: Path) -> Manifest:
    """The manifest of the cache at `root`."""
    return Manifest(Store.open(root))
