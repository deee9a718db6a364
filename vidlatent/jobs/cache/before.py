"""What a cache run can know to be wrong before its model is loaded, or fetched."""

from collections.abc import Iterable
from glob import has_magic
from pathlib import Path

from vidlatent.errors import UsageError
from vidlatent.jobs.cache.scan import refuse_missing


def check_before_loading(sources: Iterable[str], root: Path) -> None:
    """Raise UsageError where a source is not there, or the cache cannot be where it is to be.

    What a pattern matches is looked for by the run itself.
    """
    for source in sources:
        if not has_magic(source):
            refuse_missing(source)
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root}: is no folder", "name a new folder")
