"""`cache compact`, and what a run does of it by itself: journals that have grown become a snapshot."""

from pathlib import Path

from vidlatent.errors import UsageError, VidlatentError
from vidlatent.jobs.cache.claims import Claim
from vidlatent.jobs.cache.fold import Folded, count_unfolded_bytes, fold
from vidlatent.jobs.cache.index import LOOKS
from vidlatent.jobs.cache.manifest import ROWS
from vidlatent.jobs.cache.snapshot import open_snapshot
from vidlatent.jobs.cache.store import Store

FOLD = "fold"  # the name of the claim: one process of a cache at a time folds
LARGE_BYTES = 32 << 20  # of journals, at the end of a run: about 40,000 rows
HUGE_BYTES = 256 << 20  # at its beginning, which folding delays


def compact(root: Path) -> list[Folded]:
    """Fold the journals of a cache, those of the manifest and of the index; what it came to.

    Other processes may work on the cache meanwhile. Raises UsageError where one of them folds.
    """
    store = Store.open(root)
    claim = Claim.take(store.claims / FOLD)
    if claim is None:
        raise UsageError(f"{root}: another process is compacting it", "wait until it ends")
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
        claim = Claim.take(store.claims / FOLD)
        if claim is None:
            return None
        with claim:
            if (second := Claim.take(store.claims / FOLD)) is None:
                _fold_all(store)
            else:
                second.close()
    except VidlatentError as e:
        return f"the journals were not compacted: {e.what}"
    return None


def _list_kinds(store: Store) -> list[tuple]:
    return [(f, open_snapshot(f, kind)) for f, kind in ((store.manifest, ROWS), (store.index, LOOKS))]


def _fold_all(store: Store) -> list[Folded]:
    store.allow_snapshots()
    found = (fold(store.manifest, ROWS), fold(store.index, LOOKS))
    return [folded for folded in found if folded is not None]
