"""The cache job on a Ray cluster: one task lists the clips, actors write entries and rows, and return counts.

The clips are a Ray Dataset that is made as it is used: the task that lists them is a few bundles ahead of the
actors, so that work begins with the first ones, and no process holds them all. Frames never travel through
Ray, and Ray's own bookkeeping is not trusted: the manifest in the cache's folder, which every node must
reach, says what is done. Ray Data starts an actor again that died, and gives its clips out once more; those
that are finished are found in the manifest.
"""

import os
import pickle
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch

from vidlatent.errors import UsageError, VidlatentError, parameter
from vidlatent.io.sources.urls import Address, Root, parse_root
from vidlatent.jobs.cache.compact import LARGE_BYTES, fold_if_grown
from vidlatent.jobs.cache.options import RunOptions
from vidlatent.jobs.cache.packer import pack_all
from vidlatent.jobs.cache.plan import ALL
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.jobs.cache.run import CacheRun, open_run
from vidlatent.jobs.cache.scan import Clip, scan
from vidlatent.jobs.cache.stop import StopSignals
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.tally import CacheProgress, NoProgress, Tally
from vidlatent.jobs.models import ModelChoice
from vidlatent.jobs.reading.scratch import Scratch

MOST_IN_BUNDLE = 8  # clips: so many that an actor's readers are ahead of its model
LISTED_BYTES = 8 << 20  # of clips that are listed, and that no actor has yet: some ten thousand
DRAINED = 143  # the exit code of an actor that was asked to stop
COUNTS = ("done", "reused", "failed", "skipped", "left_out", "frames", "bytes")
SECONDS = ("seconds", "starved_s", "full_s", "store_s", "measured_s")


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

    root: Root
    choice: ModelChoice
    recipe: Recipe
    options: RunOptions


@dataclass(frozen=True)
class Bundle:
    """Clips that an actor gets together. The last one has none: it says how many there were, and what else.

    `error` is why the listing ended early.
    """

    clips: tuple[Clip, ...] = ()
    found: int | None = None
    notices: tuple[str, ...] = ()
    error: VidlatentError | None = None


def list_bundles(sources: Iterable[str], root: Root, options: RunOptions, size: int) -> Iterator[Bundle]:
    """The clips of all sources in bundles of so many, as they are found."""
    notices: list[str] = []
    captions, timeout = options.caption_extensions, options.stall_timeout
    with Scratch(options.scratch) as scratch:
        clips = scan(sources, root, captions, timeout, tell=notices.append, scratch=scratch)
        yield from bundle_clips(clips, notices, size)


def bundle_clips(clips: Iterator[Clip], notices: list[str], size: int) -> Iterator[Bundle]:
    """Bundles of so many clips; the last one has no clip, and says how the listing ended."""
    bundle: list[Clip] = []
    found, error = 0, None
    try:
        for clip in clips:
            bundle.append(clip)
            if len(bundle) == size:
                found += size
                yield Bundle(tuple(bundle))
                bundle = []
    except VidlatentError as e:  # as a value, for Ray would wrap it in errors of its own
        error = e
    if bundle:
        yield Bundle(tuple(bundle))
    yield Bundle((), found + len(bundle), tuple(notices), error)


class EncodeActor:
    """One model and its readers, somewhere in the cluster; Ray Data calls it with bundles of clips."""

    def __init__(self, job: Job) -> None:
        self._stack = ExitStack()
        cache = open_run(job.root, job.choice.load(only=job.recipe.only), job.recipe, job.options)
        self._run: CacheRun = self._stack.enter_context(cache)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list]:
        """Cache a pickled bundle; returns one row of counts, and the bundle if it is the last."""
        (pickled,) = batch["bundle"]
        bundle: Bundle = pickle.loads(pickled)
        before = replace(self._run.maker.tally)
        self._run.cache(bundle.clips)
        if self._run.stop.asked:
            self._give_back()
        after = self._run.maker.tally
        counts = {name: [getattr(after, name) - getattr(before, name)] for name in (*COUNTS, *SECONDS)}
        return counts | {"last": [b"" if bundle.found is None else bytes(pickled)]}

    def _give_back(self) -> None:
        """End this process, whose machine is to be taken away; the clip in hand is finished by now.

        To Ray it is a process that died, so the bundle goes to another actor, which finds in the manifest
        what was made of it.
        """
        self._stack.close()
        os._exit(DRAINED)


def run_on_ray(  # noqa: PLR0913  a run, and where
    sources: Iterable[str],
    root: Root,
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
    ray, where, root = import_ray(), where or RayOptions(), parse_root(root)
    Store.create(root)
    options = replace(options, threads=options.threads or torch.get_num_threads())
    job = Job(root if isinstance(root, Address) else root.absolute(), choice, recipe, options)
    mine = not ray.is_initialized()
    if mine:
        ours = {"include_dashboard": False} if where.address is None else {}
        ray.init(address=where.address, log_to_driver=False, logging_level="warning", **ours)
    ray.data.DataContext.get_current().enable_progress_bars = False  # our own are shown
    try:
        with StopSignals() as stop:
            tally = run_actors(ray, list(sources), job, where, progress or NoProgress(), stop)
        if tally.stopped:
            return tally
        if options.shards is not None:
            pack_all(Store.open(root), options.shards)  # what filled no shard of any actor
        if notice := fold_if_grown(Store.open(root), LARGE_BYTES):
            tally.notices.append(notice)
        return tally
    finally:
        if mine:
            ray.shutdown()


def run_actors(
    ray: Any, sources: list[str], job: Job, where: RayOptions, progress: CacheProgress, stop: StopSignals
) -> Tally:
    """Give the clips out to actors, and add up the counts that come back; a request to stop ends it."""
    tally = Tally(counting=True)
    gpus = int(ray.cluster_resources().get("GPU", 0))
    actors = where.actors or gpus or max(1, int(ray.cluster_resources().get("CPU", 1)) // 2)
    few = count_clips(sources, job, MOST_IN_BUNDLE * actors)
    size = min(MOST_IN_BUNDLE, max(1, -(-few // actors)))
    counts = list_on_ray(ray, sources, job, size).map_batches(
        EncodeActor,
        fn_constructor_args=(job,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(actors, max(1, few))),
        num_gpus=1 if gpus else None,
        num_cpus=None if gpus else 1,
    )
    for row in counts.iter_rows():
        if stop.asked:
            tally.stopped = True
            break
        add_up(tally, row)
        progress.update(tally)
    return tally


def count_clips(sources: list[str], job: Job, most: int) -> int:
    """How many clips there are, counted up to so many: few of them need few actors, and small bundles.

    Raises what is wrong with the sources, as far as that shows at their beginning.
    """
    captions, timeout = job.options.caption_extensions, job.options.stall_timeout
    with (
        Scratch(job.options.scratch) as scratch,
        closing(scan(sources, job.root, captions, timeout, scratch=scratch)) as clips,  # type: ignore[type-var]
    ):
        return sum(1 for _ in islice(clips, most))


def list_on_ray(ray: Any, sources: list[str], job: Job, size: int) -> Any:
    """A Ray Dataset of pickled bundles, each a block, made by one task as far ahead as LISTED_BYTES."""

    def give(batch: dict[str, Any]) -> Iterator[dict[str, list]]:
        for bundle in list_bundles(sources, job.root, job.options, size):
            yield {"bundle": [pickle.dumps(bundle)]}

    data = ray.data.from_items([{"listing": 0}]).map_batches(give, num_cpus=0)  # so it is in no actor
    data.context.target_max_block_size = 1  # byte: so that a bundle is given on once it is there
    limits = ray.data.ExecutionResources(object_store_memory=LISTED_BYTES)
    data.context.execution_options.resource_limits = limits
    return data


def add_up(tally: Tally, row: dict[str, Any]) -> None:
    """Add the counts of one bundle; the last bundle says how many clips there are. Raises its error."""
    for name in (*COUNTS, *SECONDS):
        setattr(tally, name, getattr(tally, name) + row[name])
    if row["last"]:
        last: Bundle = pickle.loads(row["last"])
        if last.error is not None:
            raise last.error
        tally.clips, tally.counting = last.found or 0, False
        tally.notices += last.notices
    tally.clips = max(tally.clips, tally.accounted_for)


def import_ray() -> Any:
    """Ray; raises UsageError where it is not installed."""
    try:
        import ray
        import ray.data
    except ImportError as e:
        raise UsageError(f"{parameter('engine')} ray needs Ray", "pip install 'vidlatent[ray]'") from e
    return ray
