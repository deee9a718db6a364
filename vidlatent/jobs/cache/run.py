"""Make every entry that is not there yet, and write down what became of every clip."""

import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields
from os import cpu_count
from pathlib import Path
from typing import Protocol

import torch

from vidlatent.engine.model import Model
from vidlatent.errors import BadInput
from vidlatent.io.latent_file import open_latent
from vidlatent.jobs.cache.budget import Memory
from vidlatent.jobs.cache.claims import Claim
from vidlatent.jobs.cache.entry import Task, done_row, make_entry, present
from vidlatent.jobs.cache.index import Index
from vidlatent.jobs.cache.key import ModelIdentity, canonical, described
from vidlatent.jobs.cache.manifest import DAMAGED, FAILED, SKIPPED, Manifest, Row
from vidlatent.jobs.cache.messages import Read
from vidlatent.jobs.cache.plan import ALL, Planner, Shard
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.jobs.cache.scan import Clip, scan
from vidlatent.jobs.cache.scout import Survey
from vidlatent.jobs.cache.stop import Stop
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.workers import Readers, RemoteVideo

_POLL_S = 0.5  # how often to ask whether another process has finished its clip


@dataclass(frozen=True)
class RunOptions:
    """How to go about it; nothing here changes an entry.

    `workers` is the number of reading processes. `max_memory` bounds all processes together, in bytes.
    `rehash` trusts no earlier hash of a file that looks unchanged. `threads` of a model on the CPU; sums
    of floats depend on it in their last bits, so it is told in every row. A clip whose reading makes no
    progress for `stall_s` seconds is given up; 0 waits for ever.
    """

    workers: int | None = None
    max_memory: int | None = None
    shard: Shard = ALL
    retry_failed: bool = False
    rehash: bool = False
    threads: int | None = None
    stall_s: float = 300.0


@dataclass
class Tally:
    """How far a run is: clips by what became of them, and where the time went, in seconds."""

    clips: int = 0  # files and their parts, as far as they are known
    done: int = 0
    reused: int = 0
    failed: int = 0
    skipped: int = 0
    frames: int = 0
    bytes: int = 0
    seconds: float = 0.0
    starved_s: float = 0.0  # the model waited for frames
    full_s: float = 0.0  # readers waited for the model
    stopped: bool = False
    began: float = field(default_factory=time.perf_counter, repr=False)

    @property
    def settled(self) -> int:
        """Clips of which it is known what became of them."""
        return self.done + self.reused + self.failed + self.skipped

    def facts(self) -> dict[str, object]:
        """All of it as plain values, and how long it took so far."""
        took = time.perf_counter() - self.began
        return {f.name: getattr(self, f.name) for f in fields(self) if f.repr} | {"wall_s": round(took, 3)}


class CacheProgress(Protocol):
    """Told after every clip."""

    def update(self, tally: Tally) -> None:
        """Something has changed."""
        ...


class Quiet:
    """Nobody waits."""

    def update(self, tally: Tally) -> None:
        """Say nothing."""


def run(
    sources: Iterable[str],
    root: Path,
    model: Model,
    recipe: Recipe,
    options: RunOptions | None = None,
    progress: CacheProgress | None = None,
) -> Tally:
    """Cache every clip of `sources` in the folder `root`; every file ends as a row of the manifest."""
    options = options or RunOptions()
    Store.create(root)
    with crew(root, model, recipe, options) as workers:
        workers.makers.progress = progress or Quiet()
        clips = workers.survey.share(list(scan(sources, root)), options.shard)
        workers.makers.tally.clips = len(clips)
        return workers.work(clips)


@dataclass(frozen=True)
class Crew:
    """All that a run needs, open: who looks at clips, who plans, who reads, and who makes entries."""

    survey: Survey
    planner: Planner
    makers: "Makers"
    readers: Readers
    stop: Stop

    def work(self, clips: Iterable[Clip]) -> Tally:
        """Cache these clips."""
        videos = self.makers.skip_sidecars(clips, self.planner.recipe_id)
        self.makers.work(self.planner.tasks(self.survey.found(videos)), self.readers, self.stop)
        return self.makers.tally


@contextmanager
def crew(root: Path, model: Model, recipe: Recipe, options: RunOptions) -> Iterator[Crew]:
    """Everybody who works on the cache at `root`, while the block runs."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    store, planner = Store.open(root), Planner(recipe, ModelIdentity.of(model))
    store.note(store.recipes / f"{planner.recipe_id}.json", canonical(described(recipe, planner.model)))
    workers = default_workers(options)
    scouts_count = max(1, workers // 2)
    memory = Memory.within(options.max_memory, workers, scouts_count)
    with (
        closing(Manifest(store)) as manifest,
        closing(Index(store, trusting=not options.rehash)) as index,
        Readers(scouts_count, stall_s=options.stall_s) as scouts,
        Readers(workers, memory.queue, options.stall_s) as readers,
        Stop() as stop,
    ):
        makers = Makers(store, model, manifest, memory, options.retry_failed)
        yield Crew(Survey(recipe, scouts, index), planner, makers, readers, stop)


def default_workers(options: RunOptions) -> int:
    """Reading processes: as told, else one per core but one, which feeds the model."""
    return options.workers or max(1, (cpu_count() or 2) - 1)


class Makers:
    """A run under way: tasks in, entries and rows out."""

    def __init__(
        self, store: Store, model: Model, manifest: Manifest, memory: Memory, retry_failed: bool
    ) -> None:
        self.tally = Tally()
        self.progress: CacheProgress = Quiet()
        self._store, self._model, self._manifest = store, model, manifest
        self._memory, self._retry_failed = memory, retry_failed
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
                self._manifest.reload()
                self._round(later, readers, stop)
                if self.tally.settled == settled:  # all of it is in other hands
                    time.sleep(_POLL_S)
        finally:
            for claim in self._claims.values():
                claim.release()
            self._claims.clear()
        self.tally.stopped = stop.asked

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
            adopted = self._adopted(task)
        except BaseException:
            claim.release()
            raise
        if adopted:
            claim.release()
            return False
        self._claims[task.key] = claim
        return True

    def _settled(self, task: Task) -> bool:
        """Write down what is known without any work."""
        known = self._manifest.of_key(task.key) if task.key else None
        if task.error is not None:
            self._settle(self._manifest.add(task.failed(task.error)), "failed")
        elif known is not None and present(self._store, known):
            self._settle(self._manifest.add(task.like(known)), "reused")
        elif known is not None and known.status == FAILED and self._let_be(task.key):
            self._settle(self._manifest.add(task.like(known)), "failed")
        else:
            return False
        return True

    def _let_be(self, key: str) -> bool:
        return key in self._failed or not self._retry_failed

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
        began, path = time.perf_counter(), self._store.entry(task.key)
        try:
            with video:
                size = (video.info.height, video.info.width)
                self._memory.refuse_too_large(self._model, task.recipe.plan, size, task.clip.name)
                make_entry(video, task, path, self._model)
            row, became = done_row(task, path, time.perf_counter() - began, tuple(video.notices)), "done"
        except (BadInput, ValueError, MemoryError, torch.OutOfMemoryError) as e:
            row, became = task.failed(_words(task, e), time.perf_counter() - began), "failed"
            self._failed.add(task.key)
        self.tally.starved_s += video.starved_s
        self.tally.full_s += video.full_s
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
        self.progress.update(tally)


def _question(task: Task) -> Read:
    return Read(task.clip.path, task.clip.member, task.read)


def _words(task: Task, error: BaseException) -> str:
    if isinstance(error, BadInput):
        return str(error)
    if isinstance(error, ValueError):
        return f"{task.clip.name}: {error}"
    return f"{task.clip.name}: out of memory\nhint: give --tile or --size, or --dtype bf16"
