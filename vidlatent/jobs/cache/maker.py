"""Makes the entries of tasks, each once among all processes, and writes a row about every clip.

While the network has one clip, another thread completes, flushes and hashes the entry of the clip before. Its
row is written after that, so whatever the manifest tells of is on disk.
"""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial

from vidlatent.engine.model import Model
from vidlatent.errors import BadInput, OutOfResources, VidlatentError, flag, is_out_of_memory, parameter
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.sources.patience import Unreachable, Unwanted
from vidlatent.jobs.cache.answers import find_answer
from vidlatent.jobs.cache.budget import MemoryBudget
from vidlatent.jobs.cache.claims import Claims
from vidlatent.jobs.cache.entry import Encoded, Made, Task, encode_entry, make_done_row
from vidlatent.jobs.cache.frames import PAD, LeftOut
from vidlatent.jobs.cache.manifest import DAMAGED, DONE, FAILED, SKIPPED, Manifest, ManifestRow
from vidlatent.jobs.cache.measured import EntryFinisher
from vidlatent.jobs.cache.options import RunOptions
from vidlatent.jobs.cache.packer import Packer, read_pack_mark
from vidlatent.jobs.cache.scan import Clip
from vidlatent.jobs.cache.stop import StopSignals
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.tally import CacheProgress, Measuring, NoProgress, Tally
from vidlatent.jobs.cache.thumbnails import FilmStrip
from vidlatent.jobs.encode import describe_work
from vidlatent.jobs.reading.messages import Read
from vidlatent.jobs.reading.process import Abandoned
from vidlatent.jobs.reading.readers import Readers
from vidlatent.jobs.reading.remote_video import RemoteVideo
from vidlatent.jobs.small.trial import HELD_BYTES

FAULTS = (BadInput, ValueError)  # of one clip, as is too little memory for it: the run goes on


class EntryMaker:
    """Makes entries, and counts in `tally` what became of each clip.

    For every task it first looks whether the manifest knows the answer, or another process makes the entry;
    only then are frames read and encoded.
    """

    def __init__(
        self,
        store: Store,
        model: Model,
        manifest: Manifest,
        memory: MemoryBudget,
        options: RunOptions,
        finisher: EntryFinisher,
    ) -> None:
        self.tally = Tally()
        self.progress: CacheProgress = NoProgress()
        self._store, self._model, self._manifest = store, model, manifest
        self._memory, self._options, self._finisher = memory, options, finisher
        self._packer = Packer(store, manifest, options.shards) if options.shards else None
        self._claims: dict[str, Claims] = {}  # of entries being made here
        self._packed: object = ""  # the mark of the shards that the manifest was read after
        self._failed: set[str] = set()  # keys that failed in this run
        self._later: list[Task] = []  # whose entries are being made, here or by another process
        self._finishing: tuple[Task, Future[ManifestRow]] | None = None  # the clip before, in another thread

    def pass_on_readable(self, clips: Iterable[Clip], recipe_id: str) -> Iterator[Clip]:
        """Pass on what may be a video. Of anything else write a row that says why it is not read."""
        for clip in clips:
            if clip.is_readable:
                yield clip
                continue
            status, reason = SKIPPED, clip.skipped or f"{clip.name}: no video, by its name"
            if clip.unreadable:
                status, reason = FAILED, clip.error.text(flag)
            row = ManifestRow(clip.name, status, recipe=recipe_id, error=reason, facts=dict(clip.facts))
            self._record(self._manifest.add(row), status)

    def make(self, tasks: Iterable[Task], readers: Readers, stop: StopSignals) -> None:
        """Make every entry that is missing, until it is known of each task what became of it.

        Entries that another process is making are waited for at the end. A request to stop ends the work
        after the clip in hand.
        """
        try:
            self._make_all(tasks, readers, stop)
            while self._later and not stop.asked:
                later, self._later, before = self._later, [], self.tally.accounted_for
                self._manifest.refresh()
                self._make_all(later, readers, stop)
                if self._later and self.tally.accounted_for == before:
                    self._wait()  # other processes are making all the rest
        finally:
            self._release_all()
        self.tally.stopped = stop.asked

    def steal(self, tasks: Iterable[Task], readers: Readers, stop: StopSignals) -> None:
        """Make entries of other machines' parts that nobody has made or is making, and wait for none.

        What is known of a clip already was told by the machine whose part it is in.
        """
        self._manifest.refresh()
        try:
            self._make_missing(filter(self._can_steal, tasks), readers, stop)
        finally:
            self._release_all()
        self.tally.stopped = stop.asked

    def _can_steal(self, task: Task) -> bool:
        """Whether to make the entry of another machine's task now; its claim is held then."""
        if self._is_theirs(task) or not self._must_make(task):
            return False
        self._manifest.refresh()  # whoever had the claim before may have made it
        if self._is_theirs(task):
            self._claims.pop(task.key).release()
            return False
        return True

    def _is_theirs(self, task: Task) -> bool:
        """Whether it is known of another machine's task what becomes of it."""
        known = task.error is not None or task.left_out
        return bool(known) or find_answer(self._manifest, task) is not None

    def _release_all(self) -> None:
        for claim in self._claims.values():
            claim.release()
        self._claims.clear()
        self._later.clear()

    def _wait(self) -> None:
        """Wait a moment for other processes, and say which clip of which process is waited for."""
        first = self._later[0]
        holder = self._store.home.read_holder(self._store.claims / first.key)
        self.tally.waiting = f"{first.clip.name}, which {holder} is making"
        self.progress.update(self.tally)
        self.tally.waiting = ""
        time.sleep(self._store.home.poll_s)

    def flush(self) -> None:
        """See to it that all rows survive this process, which Ray may end without a word."""
        self._manifest.flush()

    def pack_rest(self) -> None:
        """Pack the entries that are left at the end of a run into a shard that is smaller than wanted."""
        if self._packer is not None:
            self._packer.finish()

    def _make_all(self, tasks: Iterable[Task], readers: Readers, stop: StopSignals) -> None:
        self._make_missing(filter(self._must_make, tasks), readers, stop)

    def _make_missing(self, missing: Iterable[Task], readers: Readers, stop: StopSignals) -> None:
        with (
            ThreadPoolExecutor(1, "vidlatent-entries") as beside,
            closing(readers.videos(missing, _ask_for)) as videos,
        ):
            try:
                for task, video in videos:
                    self._make(task, video, beside)
                    if stop.asked:
                        return
            finally:
                self._record_finished()

    def _must_make(self, task: Task) -> bool:
        """Whether to make the entry now. If not, its row has just been written, or it waits in `_later`."""
        if self._settle_if_known(task):
            return False
        names = dict.fromkeys(filter(None, (task.key, task.off_grid_key)))  # it may get either
        if task.key in self._claims or (claim := self._take_claims(names)) is None:
            self._later.append(task)
            return False
        try:
            if (packed := read_pack_mark(self._store)) != self._packed:
                self._manifest.refresh()  # whoever had the claim before may have made and packed it
                self._packed = packed
            settled = self._settle_if_known(task) or self._adopt(task)
        except BaseException:
            claim.release()
            raise
        if settled:
            claim.release()
            return False
        self._claims[task.key] = claim
        return True

    def _take_claims(self, names: Iterable[str]) -> Claims | None:
        return Claims.take(self._store.claims, names, self._store.home.take_claim)

    def _settle_if_known(self, task: Task) -> bool:
        """Write the row of a task of which it is known without any work what becomes of it."""
        if task.error is not None:
            self._record(self._manifest.add(task.make_failed_row(task.error)), "failed")
            return True
        if task.left_out:
            self._record(self._manifest.add(task.make_left_out_row(task.left_out)), "left_out")
            return True
        known = find_answer(self._manifest, task)
        if known is None or (known.status == FAILED and not self._stays_failed(task.key)):
            return False
        became = {DONE: "reused", FAILED: "failed", SKIPPED: "left_out"}[known.status]
        self._record(self._manifest.add(task.copy_row(known)), became)
        return True

    def _stays_failed(self, key: str) -> bool:
        """Whether an entry that failed is not tried again: it failed in this run, or nobody asked to."""
        return key in self._failed or not self._options.retry_failed

    def _adopt(self, task: Task) -> bool:
        """Write the row of an entry that is whole but has none: its maker crashed before writing it."""
        for made in filter(self._may_be_orphan, self._list_made(task)):
            with self._store.home.borrow(made.path):
                if _is_whole(made, task):
                    self._record(self._manifest.add(make_done_row(task, made)), "reused")
                    return True
        return False

    def _list_made(self, task: Task) -> Iterator[Made]:
        return (Made(key, self._store.entry_path(key)) for key in (task.key, task.off_grid_key))

    def _may_be_orphan(self, made: Made) -> bool:
        """Whether there is an entry, of which no row says that it is damaged."""
        known = self._manifest.find(made.key)
        return self._store.has(made.path) and not (known is not None and known.status == DAMAGED)

    def _make(self, task: Task, video: RemoteVideo, beside: Executor) -> None:
        """Encode a clip. The thread `beside` finishes its entry, unless the network has more to do for it."""
        began, strip = time.perf_counter(), FilmStrip(self._options.thumbnails)
        try:
            with video:
                self._refuse_too_large(task, video)
                watch = strip.watch if self._options.thumbnails else iter
                encoded = encode_entry(video, task, self._store, self._model, watch)
            finish = partial(self._finish, encoded, strip, tuple(video.notices), time.perf_counter() - began)
            row = finish() if encoded.needs_network else None
        except (Abandoned, Unwanted):  # the run is to end: the next one tries this clip again
            self._claims.pop(task.key).release()
            return
        except LeftOut as e:
            self._settle(task, task.make_left_out_row(str(e)), "left_out")
        except (*FAULTS, MemoryError, RuntimeError) as e:
            self._settle_failed(task, e, time.perf_counter() - began)
        else:
            if row is None:
                self._record_finished(then=(task, beside.submit(finish)))
            else:
                self._settle(task, row, "done")
        finally:
            self.tally.starved_s += video.starved_s
            self.tally.full_s += video.full_s
            self.tally.store_s += video.store_s

    def _finish(
        self, encoded: Encoded, strip: FilmStrip, notices: tuple[str, ...], seconds: float
    ) -> ManifestRow:
        """Put an entry in its place, and what belongs to it; the row that may tell of it then.

        `notices` are about its source, and `seconds` is what it took so far.
        """
        began, task, made = time.perf_counter(), encoded.task, encoded.made
        encoded.close()
        notices += self._measure(made, task)
        if self._options.thumbnails:
            strip.save(self._store.thumbnail_path(made.key))
        row = make_done_row(task, made, seconds + time.perf_counter() - began, notices)
        self._hand_over(made)
        return row

    def _record_finished(self, then: tuple[Task, Future[ManifestRow]] | None = None) -> None:
        """Write the row of the entry that is being finished, once it is; `then` is the next one."""
        finishing, self._finishing = self._finishing, then
        if finishing is None:
            return
        task, finished = finishing
        try:
            row = finished.result()
        except (*FAULTS, MemoryError, RuntimeError) as e:
            self._settle_failed(task, e)
        else:
            self._settle(task, row, "done")

    def _settle_failed(self, task: Task, fault: Exception, took: float = 0.0) -> None:
        """Write the row of a clip that failed; raises the fault where it is not that of one clip."""
        if not isinstance(fault, FAULTS) and not is_out_of_memory(fault):
            raise fault
        told = replace(task, key="") if isinstance(fault, Unreachable) else task  # tried by the next run
        self._failed.add(task.key)
        self._settle(task, told.make_failed_row(_blame_clip(task, fault), took), "failed")

    def _settle(self, task: Task, row: ManifestRow, became: str) -> None:
        """Write the row of a clip that was worked on, and give up its claim."""
        self.tally.seconds += row.seconds
        self._record(self._manifest.add(row), became)
        self._claims.pop(task.key).release()

    def _hand_over(self, made: Made) -> None:
        """Put a finished entry where the cache lies, and after that its row may say that it is there."""
        strip = self._store.thumbnail_path(made.key)
        if self._options.thumbnails:
            self._store.home.hand_over(strip)
        self._store.home.hand_over(made.path)

    def _refuse_too_large(self, task: Task, video: RemoteVideo) -> None:
        """Raise BadInput where a clip takes too much memory, on its way in or, to be measured, out."""
        work, name, plan = describe_work(video, task.recipe.read), task.clip.name, task.recipe.plan
        self._memory.refuse_too_large(self._model, plan, work, name)
        if task.recipe.is_measured:
            back = replace(work, encode=False, rereadable=True)
            self._memory.refuse_too_large(self._model, plan, back, name, HELD_BYTES)

    def _measure(self, made: Made, task: Task) -> tuple[str, ...]:
        """Measure what the recipe wants to be measured, and say what it was."""
        if not task.recipe.is_measured:
            return ()
        with Measuring(task.clip.name, self.tally, self.progress) as measuring:
            return self._finisher.finish(made, task, measuring)

    def _record(self, row: ManifestRow, became: str) -> None:
        """Count a clip whose row is written; `became` is the tally's name for it."""
        tally = self.tally
        setattr(tally, became, getattr(tally, became) + 1)
        if became == "done":
            tally.frames += row.frames
            tally.bytes += row.bytes
        tally.clips = max(tally.clips, tally.accounted_for)
        if self._packer is not None and row.status == DONE:
            self._packer.offer(row)
        self.progress.update(tally)


def _is_whole(made: Made, task: Task) -> bool:
    """Whether an entry without a row is whole, and is what the task would make."""
    try:
        with open_latent(made.path) as latents:
            latents.verify()
            return task.recipe.frames_rule == PAD or not latents.header.pad.frames
    except BadInput:
        return False  # it will be replaced


def _ask_for(task: Task) -> Read:
    return Read(task.clip.source, task.read)


def _blame_clip(task: Task, fault: BaseException) -> VidlatentError:
    """What went wrong with a clip, as an error that names it."""
    if isinstance(fault, BadInput):
        return fault
    if isinstance(fault, ValueError):
        return BadInput(f"{task.clip.name}: {fault}")
    smaller = f"{parameter('tile')} or {parameter('size')}, or {parameter('dtype')} bf16"
    return OutOfResources(f"{task.clip.name}: out of memory", f"give {smaller}")
