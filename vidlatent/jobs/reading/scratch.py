"""Local copies of objects in stores: fetched whole, ahead of the processes that read them, within a limit."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Self

from vidlatent.errors import BadVideo, parameter
from vidlatent.file_state import ObjectState, State
from vidlatent.files import free_bytes, naming_disk_errors, try_lock
from vidlatent.io.sources.member import MemberSource
from vidlatent.io.sources.source import Source
from vidlatent.io.sources.stored import StoredSource
from vidlatent.io.sources.stores import fetch, never, read_object_state

USUAL_BYTES = 50_000_000_000  # where there is room for twice as much
_AT_ONCE = 8  # objects that are fetched
_NAME = "vidlatent-scratch-"
_OLD_S = 60.0  # after which a folder that nobody holds was left by a run that was killed


@dataclass(frozen=True)
class Held:
    """What a process reads in place of a source.

    `state` is that of the object when it was fetched, and `waited_s` how many seconds that took still.
    """

    source: Source
    state: State = None
    waited_s: float = 0.0


@dataclass
class _Copy:
    path: Path
    holders: int = 0
    wanted: bool = True  # nobody has used it yet
    state: ObjectState | None = None
    fetched: Future = field(default_factory=Future)

    @property
    def bytes(self) -> int:
        return self.state.size if self.state else 0


class _NoRoom(Exception):
    """There is no room to fetch an object ahead; it is fetched once it is needed."""


class Scratch:
    """Copies of objects in a temporary folder. A context manager, which removes them.

    They take `limit` bytes at most; but what is being read always finds room, or a run could wait for ever.
    Once `stopped` says so nothing more is fetched. The folder is made when it is needed.
    """

    def __init__(self, limit: int | None = None, stopped: Callable[[], bool] = never) -> None:
        self._limit, self._stopped = limit, stopped
        self._copies: dict[str, _Copy] = {}  # those used last are at the end
        self._lock = Lock()
        self._folder: Path | None = None
        self._held: int | None = None  # the folder, locked
        self._count = 0
        self._pool = ThreadPoolExecutor(_AT_ONCE, "vidlatent-fetch")
        self._closed = False

    @property
    def limit(self) -> int:
        """How many bytes copies may take: as told, or half of what is free, up to the usual number."""
        if self._limit is None:
            self._limit = min(USUAL_BYTES, free_bytes(Path(tempfile.gettempdir())) // 2)
        return self._limit

    @contextmanager
    def hold(self, source: Source) -> Iterator[Held]:
        """What to read in place of a source, while the block runs: a copy, if it lies in a store."""
        stored = find_stored(source)
        if stored is None:
            yield Held(source)
            return
        copy = self._take(stored, holders=1)
        try:
            began = time.perf_counter()
            copy.fetched.result()
            waited_s = time.perf_counter() - began
            here = stored.copied(copy.path)
            read = replace(source, inside=here) if isinstance(source, MemberSource) else here
            yield Held(read, copy.state, waited_s)
        finally:
            self._release(stored, copy)

    def begin(self, source: Source) -> None:
        """Fetch a source that will be needed soon, where there is room for it."""
        if (stored := find_stored(source)) is not None:
            self._take(stored, holders=0)

    def _take(self, stored: StoredSource, holders: int) -> _Copy:
        with self._lock:
            copy = self._copies.pop(stored.url, None)
            fresh = copy is None
            if copy is None:
                copy = _Copy(self._make_folder() / f"{self._count}{_suffix(stored)}")
                self._count += 1
            copy.holders += holders
            self._copies[stored.url] = copy
        if fresh:
            self._pool.submit(self._fetch, stored, copy)
        return copy

    def _release(self, stored: StoredSource, copy: _Copy) -> None:
        with self._lock:
            copy.holders -= 1
            copy.wanted = False
            if self._copies.get(stored.url) is copy:  # it is not, where it could not be fetched
                self._copies[stored.url] = self._copies.pop(stored.url)

    def _fetch(self, stored: StoredSource, copy: _Copy) -> None:
        """Fetch an object; what went wrong is raised where it is held, and the next who asks tries again."""
        try:
            state = read_object_state(stored.url, self._gives_up)
            with self._lock:
                self._make_room(stored, copy, state)
            fetch(stored.url, copy.path, state, self._gives_up)
        except BaseException as e:
            with self._lock:
                if self._copies.get(stored.url) is copy:
                    del self._copies[stored.url]
            with suppress(OSError):
                copy.path.unlink(missing_ok=True)
            copy.fetched.set_exception(e)
        else:
            copy.fetched.set_result(None)

    def _gives_up(self) -> bool:
        return self._closed or self._stopped()

    def _make_room(self, stored: StoredSource, copy: _Copy, state: ObjectState) -> None:
        """Remove copies that nobody holds, those first that were used longest ago.

        Raises _NoRoom where nobody holds this one either, and there are others to be used before it.
        """
        if state.size > self.limit:
            what = f"{stored.name}: has {state.size:,} bytes, all copies together may have {self.limit:,}"
            raise BadVideo(what, f"raise {parameter('scratch')}")
        taken = sum(other.bytes for other in self._copies.values()) + state.size
        for url, other in list(self._copies.items()):
            free = other is not copy and not other.holders and other.fetched.done()
            if taken > self.limit and free and (copy.holders or not other.wanted):
                del self._copies[url]
                other.path.unlink(missing_ok=True)
                taken -= other.bytes
        if taken > self.limit and not copy.holders:
            self._copies.pop(stored.url, None)
            raise _NoRoom
        copy.state = state

    def _make_folder(self) -> Path:
        if self._folder is None:
            self._folder, self._held = make_scratch_folder()
        return self._folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Fetch no more, and remove all copies."""
        self._closed = True
        self._pool.shutdown(cancel_futures=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._held is not None:
            os.close(self._held)


def hold_copy(scratch: Scratch | None, source: Source) -> AbstractContextManager[Held]:
    """`Scratch.hold`; without a place for copies the source itself is read, piece by piece."""
    return nullcontext(Held(source)) if scratch is None else scratch.hold(source)


def find_stored(source: Source) -> StoredSource | None:
    """The object that a source is, or lies in; None for one that is on a disk."""
    whole = source.inside if isinstance(source, MemberSource) else source
    return whole if isinstance(whole, StoredSource) else None


def _suffix(stored: StoredSource) -> str:
    """The extension of an object's name, by which tables and some videos are known."""
    suffix = Path(stored.name.partition("?")[0]).suffix
    return suffix if suffix[1:].isalnum() and len(suffix) < 12 else ""


def make_scratch_folder() -> tuple[Path, int | None]:
    """A new folder for copies, and what holds its lock; those of runs that were killed are removed."""
    with naming_disk_errors(Path(tempfile.gettempdir()) / _NAME):
        folder = Path(tempfile.mkdtemp(prefix=_NAME))
    held = lock_folder(folder)
    if held is not None:
        remove_left_folders(folder.parent)
    return folder, held


def lock_folder(folder: Path) -> int | None:
    """Hold a lock on a folder, by the descriptor that is returned; None where locks say nothing here."""
    if os.name != "posix":
        return None
    held = os.open(folder, os.O_RDONLY)
    if not try_lock(held):
        os.close(held)
        return None
    again = os.open(folder, os.O_RDONLY)
    try:
        if try_lock(again):  # the disk knows no locks: everybody gets every one
            os.close(held)
            return None
    finally:
        os.close(again)
    return held


def remove_left_folders(place: Path) -> None:
    """Remove the copies of runs that were killed: of folders that are ours, and that nobody has locked."""
    for folder in place.glob(f"{_NAME}*"):
        with suppress(OSError):
            found = folder.lstat()
            if found.st_uid != os.getuid() or time.time() - found.st_mtime < _OLD_S or folder.is_symlink():
                continue
            if (held := lock_folder(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(held)
