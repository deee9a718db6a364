"""What a cache run can know to be wrong before its model is loaded, or fetched."""

from collections.abc import Iterable
from glob import has_magic

from vidlatent.errors import UsageError
from vidlatent.files import refuse_unwritable
from vidlatent.io.sources.urls import Address, Root, is_url
from vidlatent.jobs.cache.scan import refuse_missing
from vidlatent.jobs.cache.store import MARKER, Store


def check_before_loading(sources: Iterable[str], root: Root) -> None:
    """Raise UsageError where a source is not there, or the cache cannot be where it is to be.

    What a pattern matches, and what is in a store, is looked for by the run itself.
    """
    for source in sources:
        if not has_magic(source) and not is_url(source):
            refuse_missing(source)
    if isinstance(root, Address):
        Store.at(root).refuse_other()
        return
    if root.parts and root.parts[0].endswith(":"):  # what is left of an address that was made a path
        raise UsageError(f"{root}: an address that was made a Path", "give it as text, for instance s3://b/c")
    Store(root).refuse_other()
    place = root.absolute()
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    refuse_unwritable(there / MARKER)
