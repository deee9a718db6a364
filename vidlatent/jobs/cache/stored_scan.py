"""What is to be cached of an object store: objects, folders and patterns of them become clips."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from glob import has_magic
from itertools import filterfalse, groupby
from pathlib import PurePosixPath

from vidlatent.errors import BadInput, UsageError
from vidlatent.io.sources.stored import StoredSource
from vidlatent.io.sources.stores import Listed, find_kind, list_objects, read_object
from vidlatent.io.sources.urls import hide_secrets, read_scheme
from vidlatent.jobs.cache.patterns import ANYWHERE, fits
from vidlatent.jobs.reading.ahead import map_ahead
from vidlatent.jobs.reading.captions import CAPTION, MOST_CAPTION_BYTES, read_caption_text
from vidlatent.jobs.reading.clip import Clip
from vidlatent.jobs.reading.lister import Lister
from vidlatent.jobs.reading.listing import TARS
from vidlatent.jobs.reading.tables import TABLES

WEB = ("http", "https")  # which list nothing


class StoredWalk:
    """Goes through addresses in stores, as `scan.Walk` goes through paths."""

    def __init__(self, captions: tuple[str, ...], lister: Lister) -> None:
        self._captions, self._lister = captions, lister

    def list_source(self, url: str) -> Iterator[Clip]:
        """The clips of one address; raises UsageError where there is nothing."""
        if read_scheme(url) in WEB:
            yield from self._list_object(url, (*TARS, *TABLES))
        elif has_magic(url):
            yield from self._list_pattern(url)
        elif (kind := find_kind(url, self._stopped)) == "directory":
            found = list_objects(url, None, self._stopped)
            yield from self._list_objects(filterfalse(_is_hidden, found), found)
        elif kind is None:
            what = f"{hide_secrets(url)}: no such object or folder"
            raise UsageError(what, "look with the tools of the store")
        else:
            yield from self._list_object(url, (*TARS, *TABLES))

    @property
    def _stopped(self) -> Callable[[], bool]:
        return self._lister.stopped

    def _list_pattern(self, url: str) -> Iterator[Clip]:
        scheme, _, rest = url.partition("://")
        parts = rest.split("/")
        plain = next(n for n, part in enumerate(parts) if has_magic(part))
        if not plain:
            raise UsageError(
                f"{hide_secrets(url)}: no bucket is named", f"for instance {scheme}://bucket/*.mp4"
            )
        wanted = parts[plain:]
        base = f"{scheme}://{'/'.join(parts[:plain])}"
        found = list_objects(base, None if ANYWHERE in wanted else len(wanted), self._stopped)
        chosen = [one for one in found if fits(one.parts, wanted)]
        if not chosen:
            raise UsageError(f"{hide_secrets(url)}: matches no object", "quote the pattern, and check it")
        yield from self._list_objects(chosen, found)

    def _list_objects(self, chosen: Iterable[Listed], found: Iterable[Listed]) -> Iterator[Clip]:
        """The clips of those objects that are `chosen`, with captions from among all that were `found`."""
        texts = {one.parts: one.url for one in found if one.parts[-1].lower().endswith(self._captions)}
        for tars, group in groupby(chosen, _is_tar):
            if tars:
                for one in group:
                    yield from self._list_object(one.url, TARS)
            else:
                films = ((self._make_clip(one.url), self._find_text(one.parts, texts)) for one in group)
                yield from map_ahead(lambda film: self._add_caption(*film), films)

    def _find_text(self, parts: tuple[str, ...], texts: dict[tuple[str, ...], str]) -> str | None:
        """The address of the text beside an object: of the same name, but for the extension."""
        stem = PurePosixPath(parts[-1]).stem
        names = ((*parts[:-1], stem + ending) for ending in self._captions)
        return next((texts[name] for name in names if name in texts), None)

    def _add_caption(self, clip: Clip, text: str | None) -> Clip:
        if clip.is_sidecar or text is None:
            return clip
        try:
            raw, name = read_object(text, MOST_CAPTION_BYTES + 1, self._stopped), hide_secrets(text)
            if len(raw) > MOST_CAPTION_BYTES:
                raise BadInput(f"{name}: a caption of more than {MOST_CAPTION_BYTES:,} bytes")
            return replace(clip, facts={CAPTION: read_caption_text(raw, name)})
        except BadInput as e:
            return replace(clip, error=e)

    def _list_object(self, url: str, listed: Iterable[str]) -> Iterator[Clip]:
        """An object as a clip, or the clips that it names where its kind is among those that are `listed`."""
        clip = self._make_clip(url)
        if PurePosixPath(clip.name.partition("?")[0]).suffix.lower() in listed:
            yield from self._lister.list(clip.source, self._captions)
        else:
            yield clip

    def _make_clip(self, url: str) -> Clip:
        source = StoredSource(url)
        suffix = PurePosixPath(source.name).suffix.lower()
        return Clip(source, source.name, is_caption=suffix in self._captions)


def _is_tar(one: Listed) -> bool:
    return PurePosixPath(one.parts[-1]).suffix.lower() in TARS


def _is_hidden(one: Listed) -> bool:
    return any(part.startswith(".") for part in one.parts)
