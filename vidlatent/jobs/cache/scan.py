"""What is to be cached: folders, globs, tables and WebDataset tars become a stream of clips."""

import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from glob import has_magic
from pathlib import Path

from vidlatent.errors import BadInput, UsageError
from vidlatent.io.sources.disk import DiskSource
from vidlatent.io.sources.member import MEMBER
from vidlatent.io.sources.urls import Root, is_url
from vidlatent.jobs.cache.patterns import find_files
from vidlatent.jobs.cache.seen import SeenBefore
from vidlatent.jobs.cache.store import FORMAT, MARKER
from vidlatent.jobs.cache.stored_scan import StoredWalk
from vidlatent.jobs.numbered import tell_of_frames
from vidlatent.jobs.reading.captions import (
    CAPTION,
    CAPTION_EXTENSIONS,
    MOST_CAPTION_BYTES,
    find_caption_beside,
    read_caption_text,
)
from vidlatent.jobs.reading.clip import Clip
from vidlatent.jobs.reading.lister import Lister
from vidlatent.jobs.reading.listing import TARS, make_bad_clip
from vidlatent.jobs.reading.process import STALL_TIMEOUT
from vidlatent.jobs.reading.remote_video import never
from vidlatent.jobs.reading.scratch import Scratch
from vidlatent.jobs.reading.tables import TABLES

__all__ = ["MEMBER", "Clip", "scan"]
Tell = Callable[[str], None]


def scan(  # noqa: PLR0913  what, how, and whom to ask and tell
    sources: Iterable[str],
    cache: Root,
    captions: tuple[str, ...] = CAPTION_EXTENSIONS,
    stall_timeout: float = STALL_TIMEOUT,
    stopped: Callable[[], bool] = never,
    tell: Tell = lambda notice: None,
    scratch: Scratch | None = None,
) -> Iterator[Clip]:
    """Every file of every source once, in a fixed order, as they are found.

    What cannot be read, or is no source, is a clip that says so. Files in the folder `cache` are left out.
    `captions` are the extensions of files that hold the caption of the video beside them.
    Once `stopped` says so, there are no more. Notices about whole folders are given to `tell`. Tables and
    tars in stores are listed from copies in `scratch`.
    """
    seen = SeenBefore()
    with Lister(stall_timeout, stopped, scratch) as lister:
        walk, sources = Walk(cache, captions, lister, tell), list(sources)
        stored = StoredWalk(captions, lister)
        walk.note_frames([Path(source) for source in sources if Path(source).is_file()])
        for source in sources:
            for clip in stored.list_source(source) if is_url(source) else walk.list_source(source):
                if stopped():
                    return
                if seen.add(clip.identity):
                    yield clip


class Walk:
    """Goes through sources. A folder is entered once, by whatever links it can be reached."""

    def __init__(self, cache: Root, captions: tuple[str, ...], lister: Lister, tell: Tell) -> None:
        self._cache, self._captions, self._lister, self._tell = cache, captions, lister, tell
        self._entered: dict[tuple[int, int], Path] = {}

    def list_source(self, source: str) -> Iterator[Clip]:
        """The clips of one source; raises UsageError where there is none, or it is a cache."""
        path = Path(source)
        if path.exists():
            self._refuse_cache(path)
        if path.is_dir():
            yield from self._walk(path)
        elif path.exists():
            yield from self._list_file(path, (*TARS, *TABLES))
        elif has_magic(source):
            found = find_files(source)
            if not found:
                raise UsageError(f"{source}: matches no file", "quote the pattern, and check it with ls")
            self.note_frames(found)
            for file in found:
                yield from self._list_file(file)
        else:
            refuse_missing(source)

    def _refuse_cache(self, source: Path) -> None:
        """Raise UsageError where a source is a cache, or lies in one."""
        for place in (source, *source.resolve().parents):
            if is_cache(place):
                raise UsageError(
                    f"{source}: belongs to a cache of latents ({place}), and is no video",
                    "name the folder of the videos",
                )

    def _walk(self, folder: Path) -> Iterator[Clip]:
        """The files below a folder, sorted. Tables in it are sidecars, and lie beside what they name."""
        waiting = [folder]
        while waiting and not self._lister.stopped():
            path = waiting.pop()
            if not os.path.isdir(path):
                yield from self._list_file(path)
            elif is_cache(path) and not _is_same(path, self._cache):
                yield _skip(path, "a cache of latents, which holds no videos")
            elif not _is_same(path, self._cache):
                inside = yield from self._enter(path)
                waiting += reversed(inside)

    def _enter(self, folder: Path) -> Generator[Clip, None, list[Path]]:
        """What lies directly in a folder, sorted, without hidden files; a clip that says why nothing does."""
        try:
            found = os.stat(folder)
            before = self._entered.setdefault((found.st_dev, found.st_ino), folder)
            if before is not folder:
                if os.path.abspath(before) != os.path.abspath(folder):  # else it was named twice
                    yield _skip(folder, f"the same folder as {before}: read once")
                return []
            entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        except OSError as e:
            yield make_bad_clip(DiskSource(folder), BadInput(f"{folder}: cannot be read ({e.strerror or e})"))
            return []
        self.note_frames(entries)
        return entries

    def _list_file(self, path: Path, listed: Iterable[str] = TARS) -> Iterator[Clip]:
        """A file as a clip, or the clips that it names where its kind is among those that are `listed`."""
        if path.suffix.lower() in listed:
            yield from self._lister.list(DiskSource(path), self._captions)
        else:
            yield _make_file_clip(path, self._captions)

    def note_frames(self, files: Iterable[Path]) -> None:
        """Tell of images that look like the frames of one video, and are each taken for a clip."""
        for notice in tell_of_frames(files, "name their folder in a table"):
            self._tell(notice)


def refuse_missing(source: str) -> None:
    """Raise UsageError where a source that is no pattern is not there."""
    if not Path(source).exists():
        raise UsageError(f"{source}: no such file or folder", "name a folder, a glob, a table or tars")


def _make_file_clip(path: Path, captions: tuple[str, ...]) -> Clip:
    """The clip of a file, with the caption that lies beside it."""
    clip = Clip(DiskSource(path), os.path.abspath(path), is_caption=path.suffix.lower() in captions)
    if clip.is_sidecar or (beside := find_caption_beside(path, captions)) is None:
        return clip
    try:
        with beside.open("rb") as file:
            raw = file.read(MOST_CAPTION_BYTES + 1)
        if len(raw) > MOST_CAPTION_BYTES:
            raise BadInput(f"{beside}: a caption of more than {MOST_CAPTION_BYTES:,} bytes")
        return replace(clip, facts={CAPTION: read_caption_text(raw, str(beside))})
    except OSError as e:
        return replace(clip, error=BadInput(f"{beside}: cannot be read ({e.strerror})"))
    except BadInput as e:
        return replace(clip, error=e)


def is_cache(folder: Path) -> bool:
    """Whether a folder is a cache of latents."""
    try:
        return json.loads((folder / MARKER).read_bytes()).get("format") == FORMAT
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def _is_same(folder: Path, other: Root) -> bool:
    """Whether two names lead to one folder."""
    try:
        return isinstance(other, Path) and os.path.samefile(folder, other)
    except OSError:
        return False


def _skip(path: Path, why: str) -> Clip:
    return Clip(DiskSource(path), os.path.abspath(path), skipped=f"{path}: {why}")
