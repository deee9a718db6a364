"""The cache job: make every entry that is not there yet, and write down what became of every clip."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from os import cpu_count

import torch

from vidlatent.engine.model import Model
from vidlatent.io.latent.strict_json import dump
from vidlatent.io.sources.urls import Root, parse_root
from vidlatent.jobs.cache.buckets import refuse_off_grid
from vidlatent.jobs.cache.budget import MemoryBudget
from vidlatent.jobs.cache.compact import HUGE_BYTES, LARGE_BYTES, fold_if_grown
from vidlatent.jobs.cache.index import Index
from vidlatent.jobs.cache.key import ModelIdentity, describe
from vidlatent.jobs.cache.lookup import FEW, SourceLookup
from vidlatent.jobs.cache.maker import EntryMaker
from vidlatent.jobs.cache.manifest import Manifest
from vidlatent.jobs.cache.measured import EntryFinisher
from vidlatent.jobs.cache.options import RunOptions
from vidlatent.jobs.cache.plan import Planner
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.jobs.cache.scan import Clip, scan
from vidlatent.jobs.cache.stop import StopSignals
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.tally import CacheProgress, NoProgress, Tally
from vidlatent.jobs.cache.unchanged import SourceStates
from vidlatent.jobs.reading.isolated import IsolatedReader
from vidlatent.jobs.reading.readers import Readers
from vidlatent.jobs.reading.scratch import Scratch

NO_CLAIMS = (
    "this store has no conditional puts, so processes that work on the cache at the same time do not see "
    "which clip another one is making: give each a part of its own, --shard I/N"
)


def run(
    sources: Iterable[str],
    root: Root,
    model: Model,
    recipe: Recipe,
    options: RunOptions | None = None,
    progress: CacheProgress | None = None,
) -> Tally:
    """Cache every clip of `sources` in the folder `root`, on a disk or at the address of one in a store.

    Every file ends as a row of the manifest.
    """
    options, root = options or RunOptions(), parse_root(root)
    refuse_off_grid(recipe.buckets, model.spec.grid)
    store = Store.create(root)
    fold_if_grown(store, HUGE_BYTES)
    with open_run(root, model, recipe, options) as opened:
        opened.maker.progress = progress or NoProgress()
        if not store.home.keeps_claims:
            opened.maker.tally.notices.append(f"{store.name}: {NO_CLAIMS}")
        sources = list(sources)
        tally = opened.cache(opened.find_clips(sources, root, options))
        if options.steal and options.shard.count > 1 and not tally.stopped:
            opened.steal(sources, root, options)
        if not tally.stopped:
            opened.maker.pack_rest()
    if not tally.stopped and (notice := fold_if_grown(store, LARGE_BYTES)):
        tally.notices.append(notice)
    return tally


@dataclass(frozen=True)
class CacheRun:
    """The open parts of a run: clips go through lookup, planner, readers and maker, in this order."""

    lookup: SourceLookup
    planner: Planner
    readers: Readers
    scratch: Scratch
    maker: EntryMaker
    stop: StopSignals

    def find_clips(self, sources: Iterable[str], root: Root, options: RunOptions) -> Iterator[Clip]:
        """This part of the clips of all sources as they are found; a request to stop ends the search.

        The first ones are counted before any is given, so that their number is known where there are no more.
        """
        tally = self.maker.tally
        captions, timeout = options.caption_extensions, options.stall_timeout
        found = scan(
            sources, root, captions, timeout, lambda: self.stop.asked, tally.notices.append, self.scratch
        )
        states = SourceStates()
        clips = self.lookup.pick_part(states.watch(found), options.shard)
        first = list(islice(clips, FEW))
        tally.clips, tally.counting = len(first), len(first) == FEW
        yield from first
        for clip in clips:
            tally.clips += 1
            yield clip
        tally.counting, tally.sources = False, states.digest

    def steal(self, sources: Iterable[str], root: Root, options: RunOptions) -> None:
        """Cache clips of other parts that nobody has begun, once this part is done."""
        self.lookup.index.refresh()  # so that what others have hashed is not hashed again
        captions, timeout = options.caption_extensions, options.stall_timeout
        found = scan(sources, root, captions, timeout, lambda: self.stop.asked, scratch=self.scratch)
        readable = (clip for clip in found if clip.is_readable)
        self.maker.steal(self.planner.plan(self.lookup.look_up(readable)), self.readers, self.stop)

    def cache(self, clips: Iterable[Clip]) -> Tally:
        """Cache these clips; the counts are those of the whole run so far."""
        videos = self.maker.pass_on_readable(clips, self.planner.recipe_id)
        tasks = self.planner.plan(self.lookup.look_up(videos))
        self.maker.make(tasks, self.readers, self.stop)
        self.maker.flush()
        self.lookup.index.flush()
        return self.maker.tally


@contextmanager
def open_run(root: Root, model: Model, recipe: Recipe, options: RunOptions) -> Iterator[CacheRun]:
    """Open all that works on the cache at `root`, processes included, while the block runs."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    store, planner = Store.open(root), Planner(recipe, ModelIdentity.of(model))
    store.write_recipe(planner.recipe_id, dump(describe(recipe, planner.model)))
    workers = count_workers(options)
    prober_count = max(1, workers // 2)
    memory = MemoryBudget.share_out(options.max_memory, workers, prober_count)
    with (
        closing(Manifest(store)) as manifest,
        closing(Index(store, trusting=not options.rehash)) as index,
        StopSignals() as stop,
        Scratch(options.scratch, lambda: stop.asked) as scratch,
        Readers(prober_count, 0, options.stall_timeout, lambda: stop.asked, scratch=scratch) as probers,
        Readers(
            workers, memory.queue, options.stall_timeout, stopping=lambda: stop.asked, scratch=scratch
        ) as readers,
        IsolatedReader(options.stall_timeout, scratch) as again,
    ):
        maker = EntryMaker(store, model, manifest, memory, options, EntryFinisher(model, again))
        maker.tally.recipe = planner.recipe_id
        yield CacheRun(SourceLookup(recipe, probers, index), planner, readers, scratch, maker, stop)


def count_workers(options: RunOptions) -> int:
    """How many reading processes to start: as told, else one for each core but one, which feeds the model."""
    return options.workers or max(1, (cpu_count() or 2) - 1)
