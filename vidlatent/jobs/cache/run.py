"""Make every entry that is not there yet, and write down what became of every clip."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path

import torch

from vidlatent.engine.model import Model
from vidlatent.io.latent.strict_json import dump
from vidlatent.jobs.cache.budget import Memory
from vidlatent.jobs.cache.index import Index
from vidlatent.jobs.cache.key import ModelIdentity, described
from vidlatent.jobs.cache.makers import Makers, RunOptions
from vidlatent.jobs.cache.manifest import Manifest
from vidlatent.jobs.cache.plan import Planner
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.jobs.cache.scan import Clip, scan
from vidlatent.jobs.cache.scout import Survey
from vidlatent.jobs.cache.stop import Stop
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.tally import CacheProgress, Quiet, Tally
from vidlatent.jobs.reading.readers import Readers


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
        tally = workers.work(clips)
        if not tally.stopped:
            workers.makers.pack_rest()
        return tally


@dataclass(frozen=True)
class Crew:
    """All that a run needs, open: who looks at clips, who plans, who reads, and who makes entries."""

    survey: Survey
    planner: Planner
    makers: Makers
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
    store.note(store.recipes / f"{planner.recipe_id}.json", dump(described(recipe, planner.model)))
    workers = default_workers(options)
    scouts_count = max(1, workers // 2)
    memory = Memory.within(options.max_memory, workers, scouts_count)
    with (
        closing(Manifest(store)) as manifest,
        closing(Index(store, trusting=not options.rehash)) as index,
        Readers(scouts_count, stall_timeout=options.stall_timeout) as scouts,
        Readers(workers, memory.queue, options.stall_timeout) as readers,
        Stop() as stop,
    ):
        makers = Makers(store, model, manifest, memory, options)
        yield Crew(Survey(recipe, scouts, index), planner, makers, readers, stop)


def default_workers(options: RunOptions) -> int:
    """Reading processes: as told, else one per core but one, which feeds the model."""
    return options.workers or max(1, (cpu_count() or 2) - 1)
