"""`cache compact`, and what a run does of it by itself: journals that have grown become a snapshot."""

from dataclasses import replace
from pathlib import Path

from vidlatent.errors import UsageError, VidlatentError
from vidlatent.io.sources.urls import Root
from vidlatent.jobs.cache.fold import FOLDED, Folded, count_unfolded_bytes, fold
from vidlatent.jobs.cache.index import LOOKS
from vidlatent.jobs.cache.manifest import ROWS
from vidlatent.jobs.cache.snapshot import Kind, open_snapshot
from vidlatent.jobs.cache.store import Store

FOLD = "fold"  # the name of the claim: one process of a cache at a time folds
LARGE_BYTES = 32 << 20  # of journals, at the end of a run: about 40,000 rows
HUGE_BYTES = 256 << 20  # at its beginning, which folding delays


def compact(root: Root) -> list[Folded]:
    """Fold the journals of a cache, those of the manifest and of the index; what it came to.

    Other processes may work on the cache meanwhile. Raises UsageError where one of them folds.
    """
    store = Store.open(root)
    claim = store.take_claim(FOLD)
    if claim is None:
        raise UsageError(f"{store.name}: another process is compacting it", "wait until it ends")
    with claim:
        return _fold_all(store)


def fold_if_grown(store: Store, beyond: int) -> str | None:
    """Fold journals of more than so many bytes, unless another process does; what went wrong, if anything.

    The work of a run is done without it, so a run does not fail with it. Where the disk knows no locks
    nothing is done, as two processes would do it at once: there `cache compact` is for a time when nobody
    works.
    """
    try:
        if sum(count_unfolded_bytes(*kind) for kind in _list_kinds(store)) <= beyond:
            return None
        claim = store.take_claim(FOLD)
        if claim is None:
            return None
        with claim:
            if (second := store.take_claim(FOLD)) is None:
                _fold_all(store)
            else:
                second.close()
    except VidlatentError as e:
        return f"the journals were not compacted: {e.what}"
    return None


def _list_kinds(store: Store) -> list[tuple]:
    for folder in (store.manifest, store.index):
        store.home.pull(folder)
    return [(f, open_snapshot(f, kind)) for f, kind in ((store.manifest, ROWS), (store.index, LOOKS))]


def _fold_all(store: Store) -> list[Folded]:
    store.allow_snapshots()
    found = (_fold(store, folder, kind) for folder, kind in ((store.manifest, ROWS), (store.index, LOOKS)))
    return [folded for folded in found if folded is not None]


def _fold(store: Store, folder: Path, kind: Kind) -> Folded | None:
    """Fold one folder of journals; None where nothing is new, or somebody else has folded it meanwhile."""
    store.home.pull(folder)
    folded = fold(folder, kind)
    if folded is not None and not store.home.publish_new(folded.path):
        return None
    store.home.put_away(folder, folder / FOLDED)
    return folded and replace(folded, path=store.home.at(folded.path))
