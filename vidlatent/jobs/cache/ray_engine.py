"""The cache job on a Ray cluster: actors receive paths, write entries and rows, and return counts.

Frames never travel through Ray, and Ray's own bookkeeping is not trusted: the manifest in the cache's folder,
which every node must reach, says what is done. Ray Data starts an actor again that died, and gives its clips
out once more; those that are finished are found in the manifest.
"""

import pickle
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vidlatent.errors import UsageError, parameter
from vidlatent.jobs.cache.compact import LARGE_BYTES, fold_if_grown
from vidlatent.jobs.cache.options import RunOptions
from vidlatent.jobs.cache.packer import pack_all
from vidlatent.jobs.cache.plan import ALL
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.jobs.cache.run import CacheRun, open_run
from vidlatent.jobs.cache.scan import Clip, scan
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.tally import CacheProgress, NoProgress, Tally
from vidlatent.jobs.models import ModelChoice

CLIPS_PER_BATCH = 8  # so that an actor's readers are ahead of its model
COUNTS = ("done", "reused", "failed", "skipped", "left_out", "frames", "bytes")
SECONDS = ("seconds", "starved_s", "full_s")


@dataclass(frozen=True)
class RayOptions:
    """Where to run.

    `address` is that of a cluster; None starts one on this machine. `actors` is the number of models; None is
    one for each GPU of the cluster, or for every two CPUs where it has no GPU.
    """

    address: str | None = None
    actors: int | None = None


@dataclass(frozen=True)
class Job:
    """What every actor must know of the run."""

    root: Path
    choice: ModelChoice
    recipe: Recipe
    options: RunOptions


class EncodeActor:
    """One model and its readers, somewhere in the cluster; Ray Data calls it with batches of clips."""

    def __init__(self, job: Job) -> None:
        self._stack = ExitStack()
        cache = open_run(job.root, job.choice.load(), job.recipe, job.options)
        self._run: CacheRun = self._stack.enter_context(cache)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list]:
        """Cache a batch of pickled clips; returns one row of counts."""
        before = replace(self._run.maker.tally)
        self._run.cache([pickle.loads(clip) for clip in batch["clip"]])
        after = self._run.maker.tally
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
    """`run` on Ray Data: the same rows, and the same bytes where nodes compute alike.

    Ray gives out all clips itself, so a part of them cannot be chosen.
    """
    if options.shard != ALL:
        raise UsageError(
            f"{parameter('engine')} ray gives out all clips itself, not part "
            f"{options.shard.index}/{options.shard.count}",
            f"leave {parameter('shard')} out",
        )
    ray, where = import_ray(), where or RayOptions()
    Store.create(root)
    notices: list[str] = []
    found = scan(sources, root, options.caption_extensions, options.stall_timeout, tell=notices.append)
    clips = list(found)
    options = replace(options, threads=options.threads or torch.get_num_threads())
    job = Job(root.absolute(), choice, recipe, options)
    mine = not ray.is_initialized()
    if mine:
        ours = {"include_dashboard": False} if where.address is None else {}
        ray.init(address=where.address, log_to_driver=False, logging_level="warning", **ours)
    ray.data.DataContext.get_current().enable_progress_bars = False  # our own are shown
    try:
        tally = run_actors(ray, clips, job, where, progress or NoProgress())
        tally.notices += notices
        if options.shards is not None:
            pack_all(Store.open(root), options.shards)  # what filled no shard of any actor
        if notice := fold_if_grown(Store.open(root), LARGE_BYTES):
            tally.notices.append(notice)
        return tally
    finally:
        if mine:
            ray.shutdown()


def run_actors(ray: Any, clips: list[Clip], job: Job, where: RayOptions, progress: CacheProgress) -> Tally:
    """Give the clips out to actors, and add up the counts that come back."""
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
        tally.clips = max(tally.clips, tally.accounted_for)
        progress.update(tally)
    return tally


def import_ray() -> Any:
    """Ray; raises UsageError where it is not installed."""
    try:
        import ray
        import ray.data
    except ImportError as e:
        raise UsageError(f"{parameter('engine')} ray needs Ray", "pip install 'vidlatent[ray]'") from e
    return ray
