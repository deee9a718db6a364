"""What earlier runs found out about source files, so that a million hashes need not be taken twice.

A file is taken for unchanged where its path, size and modification time are the same; `--rehash` trusts
none of that. A file that was changed a moment ago may change again within the same tick of the clock, so it
is not remembered yet (the trick is git's).
"""

import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from hashlib import sha256

from vidlatent.errors import BadInput, UsageError
from vidlatent.file_state import AT_REST_S, FileState, ObjectState, State
from vidlatent.jobs.cache.journal import JournalReader
from vidlatent.jobs.cache.scan import Clip
from vidlatent.jobs.cache.snapshot import Kind, Snapshot, open_snapshot
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.reading.scratch import find_stored
from vidlatent.jobs.reading.survey import Look, Probe, Seen
from vidlatent.json_values import to_json_values

_KINDS = {"source": str, "stream": int, "size": int, "mtime_ns": int, "sha256": str, "probe": dict}
_PACKED = ("size", "mtime_ns", "sha256", "probe")
_FRACTION = re.compile(r"-?\d{1,99}(/\d{1,99})?")
_FRACTIONS = ("sar", "duration_s", "rate", "first_s")


class Index:
    """Hashes and probes of files, by all processes so far. With `trusting` False it begins empty.

    What was folded into a snapshot is searched there; what is younger is held in memory.
    """

    def __init__(self, store: Store, trusting: bool = True) -> None:
        self._store, self._journal = store, store.home.open_journal(store.index, durable=False)
        self._snapshot = Snapshot(LOOKS)
        self._known: dict[str, str] = {}  # packed: there may be many
        if trusting:
            store.home.pull(store.index)
            with suppress(BadInput):  # what may not be read: what it knows is found out again
                self._snapshot = open_snapshot(store.index, LOOKS)
        self._journals = JournalReader(store.index, self._snapshot.folded) if trusting else None
        self._read_new()

    def refresh(self) -> None:
        """Read what other processes have seen since the last call."""
        if self._journals is not None:
            self._store.home.pull(self._store.index)
        self._read_new()

    def _read_new(self) -> None:
        if self._journals is None:
            return
        with suppress(BadInput):
            for record in self._journals.read_new():
                with suppress(ValueError):
                    self._take(LOOKS.parse(record))

    def knows(self, clip: Clip, stream: int) -> bool:
        """Whether a source was ever seen, so that there is a point in asking for its state now."""
        return self._find(_name(clip.name, stream)) is not None

    def recall(self, clip: Clip, ask: Look, state: State = None) -> Seen | None:
        """What was seen of a source that has not changed; None where that is not enough to answer `ask`.

        `state` is that of one in a store: for a file it is found out here.
        """
        found = self._find(_name(clip.name, ask.stream))
        if found is None:
            return None
        *known, digest, facts = found
        probe = _parse_probe(facts)
        state = clip.source.state() if find_stored(clip.source) is None else state
        if _mark(state) != known or (ask.hashed and not digest) or (ask.timed and probe.first_s is None):
            return None
        return Seen(digest, probe, state=state)

    def _find(self, name: str) -> list | None:
        """Size, time, hash and probe of a file; None where it is not known."""
        if name in self._known:
            return json.loads(self._known[name])
        with suppress(BadInput):  # a damaged snapshot
            for record in self._snapshot.find_name(name):
                return [record[field] for field in _PACKED]
        return None

    def learn(self, clip: Clip, ask: Look, seen: Seen) -> None:
        """Remember what was seen of a file, unless it was changed a moment ago."""
        mark = _mark(seen.state)
        if seen.probe is None or mark is None:
            return
        if isinstance(seen.state, FileState) and time.time() - seen.state.mtime_ns / 1e9 < AT_REST_S:
            return
        record = {
            "source": clip.name,
            "stream": ask.stream,
            "size": mark[0],
            "mtime_ns": mark[1],
            "sha256": seen.sha256,
            "probe": to_json_values(vars(seen.probe)),
        }
        self._take(record)
        with suppress(UsageError):  # an index that may not be written spares nothing, and costs nothing
            self._journal.append(record)

    def _take(self, record: Mapping) -> None:
        packed = [record[field] for field in _PACKED]
        self._known[_name(record["source"], record["stream"])] = json.dumps(packed)

    def flush(self) -> None:
        """See to it that what was seen is there for others: in a store it may wait."""
        self._journal.flush()

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


def check_record(record: Mapping) -> None:
    """Raise ValueError where a record of the index does not say what was seen of a file."""
    try:
        wrong = [name for name, kind in _KINDS.items() if type(record[name]) is not kind]
        facts = record["probe"]
        wrong += [k for k in _FRACTIONS if facts[k] is not None and not _FRACTION.fullmatch(facts[k])]
        probe = None if wrong else _parse_probe(facts)
        fine = probe is not None and min(probe.width, probe.height, probe.sar, probe.frames or 1) > 0
    except (KeyError, TypeError, ArithmeticError) as e:
        raise ValueError(f"what was seen of a file: {type(e).__name__} {e}") from e
    if not fine:
        raise ValueError(f"what was seen of a file: {', '.join(wrong) or probe}"[:200])


def _mark(state: State) -> list[int] | None:
    """Size and time of a file; of an object its size, and a number made of what its store calls it by."""
    if isinstance(state, FileState):
        return [state.size, state.mtime_ns]
    if isinstance(state, ObjectState) and state.tag:
        return [state.size, int.from_bytes(sha256(state.tag.encode()).digest()[:7], "big")]
    return None


def _name(source: str, stream: int) -> str:
    return str((source, stream))


def _parse_record(record: Mapping) -> Mapping:
    check_record(record)
    return record


LOOKS = Kind(
    fields=tuple(_KINDS),
    parse=_parse_record,
    pack=lambda record: [record[field] for field in _KINDS],
    unpack=lambda values: dict(zip(_KINDS, values, strict=False)),
    name=lambda record: _name(record["source"], record["stream"]),
)  # what was seen of files, in a snapshot


def _parse_probe(facts: Mapping) -> Probe:
    return Probe(**{k: Fraction(v) if k in _FRACTIONS and v is not None else v for k, v in facts.items()})
