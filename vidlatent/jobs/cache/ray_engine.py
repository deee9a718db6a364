"""The same job on a Ray cluster: actors receive paths, write entries and rows, and return counts.

Frames never travel through Ray, and Ray's own bookkeeping is not trusted: the manifest in the cache's
folder, which every node must reach, says what is done. An actor that dies is begun again by Ray Data, its
clips are given out once more, and those that are finished are found in the manifest.
"""

import pickle
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vidlatent.errors import UsageError, parameter
from vidlatent.jobs.cache.makers import RunOptions
from vidlatent.jobs.cache.packer import pack_all
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.jobs.cache.run import Crew, crew
from vidlatent.jobs.cache.scan import Clip, scan
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.tally import CacheProgress, Quiet, Tally
from vidlatent.jobs.decode import ModelChoice

CLIPS_PER_BATCH = 8  # so that an actor's readers are ahead of its model
COUNTS = ("done", "reused", "failed", "skipped", "frames", "bytes")
SECONDS = ("seconds", "starved_s", "full_s")


@dataclass(frozen=True)
class RayOptions:
    """`address` of a cluster, None: one on this machine. `actors` is the number of models, None: one per
    GPU of the cluster, or per two CPUs where there is none."""

    address: str | None = None
    actors: int | None = None


@dataclass(frozen=True)
class Job:
    """What every actor must know."""

    root: Path
    choice: ModelChoice
    recipe: Recipe
    options: RunOptions


class EncodeActor:
    """One model and its readers somewhere in the cluster; a callable for `map_batches`."""

    def __init__(self, job: Job) -> None:
        self._stack = ExitStack()
        cache = crew(job.root, job.choice.load(), job.recipe, job.options)
        self._crew: Crew = self._stack.enter_context(cache)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list]:
        """Cache a batch of pickled clips; one row of counts."""
        before = replace(self._crew.makers.tally)
        self._crew.work([pickle.loads(clip) for clip in batch["clip"]])
        after = self._crew.makers.tally
        return {name: [getattr(after, name) - getattr(before, name)] for name in (*COUNTS, *SECONDS)}


def run_on_ray(  # noqa: PLR0913  a run, and where
    sources: Iterable[str],
    root: Path,
    choice: ModelChoice,
    recipe: Recipe,
    options: RunOptions,
    where: RayOptions | None = None,
    progress: CacheProgress | None = None,
) -> Tally:
    """`run` on Ray Data: the same rows, and the same bytes where nodes compute alike."""
    ray, where = imported(), where or RayOptions()
    Store.create(root)
    clips = list(scan(sources, root))
    options = replace(options, threads=options.threads or torch.get_num_threads())
    job = Job(root.absolute(), choice, recipe, options)
    mine = not ray.is_initialized()
    if mine:
        ours = {"include_dashboard": False} if where.address is None else {}
        ray.init(address=where.address, log_to_driver=False, logging_level="warning", **ours)
    ray.data.DataContext.get_current().enable_progress_bars = False  # we show our own
    try:
        tally = collected(ray, clips, job, where, progress or Quiet())
        if options.shards is not None:
            pack_all(Store.open(root), options.shards)  # what filled no shard of any actor
        return tally
    finally:
        if mine:
            ray.shutdown()


def collected(ray: Any, clips: list[Clip], job: Job, where: RayOptions, progress: CacheProgress) -> Tally:
    """Give the clips out, and add up what comes back."""
    tally = Tally(clips=len(clips))
    gpus = int(ray.cluster_resources().get("GPU", 0))
    actors = where.actors or gpus or max(1, int(ray.cluster_resources().get("CPU", 1)) // 2)
    items = [{"clip": pickle.dumps(clip)} for clip in clips]
    size = min(CLIPS_PER_BATCH, max(1, -(-len(items) // actors)))
    data = ray.data.from_items(items, override_num_blocks=max(1, -(-len(items) // size)))
    counts = data.map_batches(
        EncodeActor,
        fn_constructor_args=(job,),
        batch_size=size,
        compute=ray.data.ActorPoolStrategy(size=min(actors, max(1, len(items)))),
        num_gpus=1 if gpus else None,
        num_cpus=None if gpus else 1,
    )
    for row in counts.iter_rows():
        for name in (*COUNTS, *SECONDS):
            setattr(tally, name, getattr(tally, name) + row[name])
        tally.clips = max(tally.clips, tally.settled)
        progress.update(tally)
    return tally


def imported() -> Any:
    """Ray, where it is installed."""
    try:
        import ray
        import ray.data
    except ImportError as e:
        raise UsageError(f"{parameter('engine')} ray needs Ray", "pip install 'vidlatent[ray]'") from e
    return ray
