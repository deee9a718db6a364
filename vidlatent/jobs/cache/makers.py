"""Tasks in, entries and rows out."""

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

import torch

from vidlatent.engine.model import Model
from vidlatent.errors import BadInput, OutOfResources, VidlatentError, parameter
from vidlatent.io.latent.reader import open_latent
from vidlatent.jobs.cache.budget import Memory
from vidlatent.jobs.cache.claims import Claim
from vidlatent.jobs.cache.entry import Task, done_row, make_entry
from vidlatent.jobs.cache.manifest import DAMAGED, DONE, FAILED, SKIPPED, Manifest, Row
from vidlatent.jobs.cache.packer import Packer
from vidlatent.jobs.cache.plan import ALL, Shard
from vidlatent.jobs.cache.scan import Clip
from vidlatent.jobs.cache.shards import Sharding
from vidlatent.jobs.cache.stop import Stop
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.tally import CacheProgress, Quiet, Tally
from vidlatent.jobs.reading.messages import Read
from vidlatent.jobs.reading.process import STALL_TIMEOUT
from vidlatent.jobs.reading.readers import Readers
from vidlatent.jobs.reading.remote_video import RemoteVideo

FAULTS = (BadInput, ValueError, MemoryError, torch.OutOfMemoryError)  # of one clip
_POLL_S = 0.5  # how often to ask whether another process has finished its clip


@dataclass(frozen=True)
class RunOptions:
    """How to go about it; nothing here changes an entry.

    `workers` is the number of reading processes. `max_memory` bounds all processes together, in bytes.
    `rehash` trusts no earlier hash of a file that looks unchanged. `threads` of a model on the CPU; sums of
    floats depend on it in their last bits, so it is told in every row. A clip whose reading makes no progress
    for `stall_timeout` seconds is given up; 0 waits for ever. With `shards` finished entries are packed.
    """

    workers: int | None = None
    max_memory: int | None = None
    shard: Shard = ALL
    retry_failed: bool = False
    rehash: bool = False
    threads: int | None = None
    stall_timeout: float = STALL_TIMEOUT
    shards: Sharding | None = None


class Makers:
    """A run under way: tasks in, entries and rows out."""

    def __init__(
        self, store: Store, model: Model, manifest: Manifest, memory: Memory, options: RunOptions
    ) -> None:
        self.tally = Tally()
        self.progress: CacheProgress = Quiet()
        self._store, self._model, self._manifest = store, model, manifest
        self._memory, self._options = memory, options
        self._packer = Packer(store, manifest, options.shards) if options.shards else None
        self._claims: dict[str, Claim] = {}  # of entries being made here
        self._failed: set[str] = set()  # keys that failed in this run
        self._later: list[Task] = []  # being made, here or by another process

    def skip_sidecars(self, clips: Iterable[Clip], recipe_id: str) -> Iterator[Clip]:
        """Pass on what may be a video; write down what by its name is none."""
        for clip in clips:
            if clip.sidecar:
                reason = f"{clip.name}: no video, by its name"
                row = Row(clip.name, SKIPPED, recipe=recipe_id, error=reason, facts=dict(clip.facts))
                self._settle(self._manifest.add(row), "skipped")
            else:
                yield clip

    def work(self, tasks: Iterable[Task], readers: Readers, stop: Stop) -> None:
        """Make what is to be made, until all is settled or somebody asks to stop."""
        try:
            self._round(tasks, readers, stop)
            while self._later and not stop.asked:
                later, self._later, settled = self._later, [], self.tally.settled
                self._manifest.refresh()
                self._round(later, readers, stop)
                if self.tally.settled == settled:  # all of it is in other hands
                    time.sleep(_POLL_S)
        finally:
            for claim in self._claims.values():
                claim.release()
            self._claims.clear()
        self.tally.stopped = stop.asked

    def pack_rest(self) -> None:
        """Pack what fills no shard."""
        if self._packer is not None:
            self._packer.finish()

    def _round(self, tasks: Iterable[Task], readers: Readers, stop: Stop) -> None:
        wanted = (task for task in tasks if self._must_make(task))
        with closing(readers.videos(wanted, _question)) as videos:
            for task, video in videos:
                self._make(task, video)
                if stop.asked:
                    return

    def _must_make(self, task: Task) -> bool:
        """Whether this process is to make the entry now; if not, it is settled, or waits."""
        if self._settled(task):
            return False
        if task.key in self._claims or (claim := Claim.take(self._store.claims / task.key)) is None:
            self._later.append(task)
            return False
        try:
            if self._store.shards.exists():  # whoever had the claim before may have made and packed it
                self._manifest.refresh()
            settled = self._settled(task) or self._adopted(task)
        except BaseException:
            claim.release()
            raise
        if settled:
            claim.release()
            return False
        self._claims[task.key] = claim
        return True

    def _settled(self, task: Task) -> bool:
        """Write down what is known without any work."""
        known = self._manifest.of_key(task.key) if task.key else None
        if task.error is not None:
            self._settle(self._manifest.add(task.failed(task.error)), "failed")
        elif known is not None and self._manifest.present(known):
            self._settle(self._manifest.add(task.like(known)), "reused")
        elif known is not None and known.status == FAILED and self._let_be(task.key):
            self._settle(self._manifest.add(task.like(known)), "failed")
        else:
            return False
        return True

    def _let_be(self, key: str) -> bool:
        return key in self._failed or not self._options.retry_failed

    def _adopted(self, task: Task) -> bool:
        """Take over an entry that has no row: made by another process, or just before a crash."""
        path = self._store.entry(task.key)
        known = self._manifest.of_key(task.key)
        if not path.exists() or (known is not None and known.status == DAMAGED):
            return False
        try:
            with open_latent(path) as latents:
                latents.verify()
        except BadInput:
            return False  # it will be replaced
        self._settle(self._manifest.add(done_row(task, path)), "reused")
        return True

    def _make(self, task: Task, video: RemoteVideo) -> None:
        """Make one entry."""
        began, path = time.perf_counter(), self._store.entry(task.key)
        try:
            with video:
                size = (video.info.height, video.info.width)
                self._memory.refuse_too_large(self._model, task.recipe.plan, size, task.clip.name)
                make_entry(video, task, path, self._model)
            row, became = done_row(task, path, time.perf_counter() - began, tuple(video.notices)), "done"
        except FAULTS as e:
            row, became = task.failed(_blame(task, e), time.perf_counter() - began), "failed"
        self.tally.starved_s += video.starved_s
        self.tally.full_s += video.full_s
        self._close(task, row, became)

    def _close(self, task: Task, row: Row, became: str) -> None:
        """Settle what was claimed, and let it go."""
        if became == "failed":
            self._failed.add(task.key)
        self.tally.seconds += row.seconds
        self._settle(self._manifest.add(row), became)
        self._claims.pop(task.key).release()

    def _settle(self, row: Row, became: str) -> None:
        tally = self.tally
        setattr(tally, became, getattr(tally, became) + 1)
        if became == "done":
            tally.frames += row.frames
            tally.bytes += row.bytes
        tally.clips = max(tally.clips, tally.settled)
        if self._packer is not None and row.status == DONE:
            self._packer.offer(row)
        self.progress.update(tally)


def _question(task: Task) -> Read:
    return Read(task.clip.path, task.clip.member, task.read)


def _blame(task: Task, fault: BaseException) -> VidlatentError:
    """What went wrong with a clip, as an error that names it."""
    if isinstance(fault, BadInput):
        return fault
    if isinstance(fault, ValueError):
        return BadInput(f"{task.clip.name}: {fault}")
    tile, size, dtype = map(parameter, ("tile", "size", "dtype"))
    return OutOfResources(f"{task.clip.name}: out of memory", f"give {tile} or {size}, or {dtype} bf16")
