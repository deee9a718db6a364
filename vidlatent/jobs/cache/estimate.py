"""`--dry-run` of a cache: what a run would do, found out without doing it."""

import random
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from math import sqrt

import numpy as np

from vidlatent.engine.model import Model
from vidlatent.io.sources.urls import Root
from vidlatent.jobs.cache.answers import find_answer
from vidlatent.jobs.cache.entry import Task
from vidlatent.jobs.cache.frames import CUT, Numbering
from vidlatent.jobs.cache.index import Index
from vidlatent.jobs.cache.key import ModelIdentity
from vidlatent.jobs.cache.lookup import FEW, SourceLookup
from vidlatent.jobs.cache.manifest import DONE, FAILED, SKIPPED, Manifest
from vidlatent.jobs.cache.options import RunOptions
from vidlatent.jobs.cache.plan import Planner
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.jobs.cache.run import count_workers
from vidlatent.jobs.cache.scan import Clip, scan
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.reading.readers import Readers
from vidlatent.jobs.reading.scratch import Scratch
from vidlatent.jobs.reading.survey import Probe
from vidlatent.jobs.storing import guess_item_bytes

SAMPLE = 2_000  # clips that are looked at where there are many
PACKED_BYTES = 0.4  # of a latent: a fifth of bf16, as real clips take at a drop of 0.1 dB


@dataclass(frozen=True)
class Estimate:
    """What is to be expected of a run. Lengths and sizes are those of headers, which may be a little off.

    `seconds` is the time of the network alone, measured on one window of the commonest size; the decoding of
    clips that are measured comes on top of it. Where there are many clips all are counted, and `sampled` of
    them, drawn by chance, are looked at: the rest is taken to be like them. The frames to encode are then as
    many as it says, ± the share `margin`, for 19 of 20 draws.
    """

    files: int
    clips: int
    skipped: int
    left_out: int
    cached: int
    failed_before: int
    unreadable: int
    to_do: int
    video_hours: float
    frames: int
    bytes: int
    seconds: float
    sampled: int = 0
    margin: float = 0.0


def dry_run(
    sources: Iterable[str], root: Root, model: Model, recipe: Recipe, options: RunOptions
) -> Estimate:
    """Look at the clips, and add up. The folder `root` need not exist, and is not made."""
    planner, store = Planner(recipe, ModelIdentity.of(model)), Store.at(root)
    captions, timeout = options.caption_extensions, options.stall_timeout
    with (
        Scratch(options.scratch) as scratch,
        Readers(count_workers(options), stall_timeout=timeout, scratch=scratch) as probers,
        closing(Index(store, not options.rehash)) as index,
    ):
        found = scan(sources, root, captions, timeout, scratch=scratch)
        lookup = SourceLookup(recipe, probers, index, remembering=False)
        drawn = draw_clips(lookup.pick_part(found, options.shard))
        looks = list(lookup.look_up(drawn.readable))
    tasks = list(planner.plan(looks))
    probes = {clip.name: seen.probe for clip, seen in looks}
    estimate = add_up(drawn.files, tasks, probes, store, model)
    if drawn.count > len(drawn.readable):
        estimate = extrapolate(estimate, drawn)
    else:
        estimate = replace(estimate, margin=0.0)
    unreadable = estimate.unreadable + drawn.unreadable
    return replace(estimate, skipped=drawn.skipped, unreadable=unreadable)


@dataclass
class Drawn:
    """The clips that are looked at, out of `count` that may be videos, and how many others there were."""

    readable: list[Clip] = field(default_factory=list)
    count: int = 0
    unreadable: int = 0
    skipped: int = 0

    @property
    def files(self) -> int:
        """How many files, members and rows there were."""
        return self.count + self.unreadable + self.skipped


def draw_clips(clips: Iterable[Clip]) -> Drawn:
    """All clips where they are few; of more as many as SAMPLE, each of them as likely as any other."""
    drawn, chance = Drawn(), random.Random(0)
    for clip in clips:
        if clip.unreadable:
            drawn.unreadable += 1
        elif not clip.is_readable:
            drawn.skipped += 1
        else:
            drawn.count += 1
            if drawn.count <= FEW:
                drawn.readable.append(clip)
                continue
            if drawn.count == FEW + 1:
                drawn.readable = chance.sample(drawn.readable, SAMPLE)
            if (place := chance.randrange(drawn.count)) < SAMPLE:
                drawn.readable[place] = clip
    return drawn


def find_margin(frames: list[int], clips: int) -> float:
    """How far the frames of all clips may be from those of a sample, as a share: of 20 samples 19 are nearer.

    `frames` are those of the clips to encode, of so many `clips` that were looked at.
    """
    mean = sum(frames) / max(1, clips)
    variance = sum(count * count for count in frames) / max(1, clips) - mean * mean
    return round(1.96 * sqrt(max(0.0, variance) / clips) / mean, 4) if mean else 0.0


def extrapolate(part: Estimate, drawn: Drawn) -> Estimate:
    """What all clips come to, where a sample comes to `part`."""
    times, counts = drawn.count / len(drawn.readable), ("clips", "left_out", "cached", "failed_before")
    counts = (*counts, "unreadable", "to_do", "frames", "bytes")
    told = {name: round(getattr(part, name) * times) for name in counts}
    hours, seconds = round(part.video_hours * times, 4), round(part.seconds * times, 6)
    return replace(part, **told, video_hours=hours, seconds=seconds, sampled=len(drawn.readable))


def add_up(files: int, tasks: list[Task], probes: dict, store: Store, model: Model) -> Estimate:
    """Sort the tasks by what a run would do with them, and sum up those that it would make."""
    states = Counter()
    todo: dict[str, tuple[int, float, tuple[int, int], Task]] = {}
    manifest = Manifest(store)
    for task in tasks:
        known = find_answer(manifest, task)
        if task.error is not None:
            states["unreadable"] += 1
        elif task.left_out:
            states[SKIPPED] += 1
        elif known is not None:
            states[known.status] += 1
        else:
            frames, hours, size = estimate_clip(task, probes[task.clip.name])
            todo.setdefault(task.key, (frames, hours, size, task))
    work = list(todo.values())
    return Estimate(
        files=files,
        clips=len(tasks),
        skipped=0,
        left_out=states[SKIPPED],
        cached=states[DONE],
        failed_before=states[FAILED],
        unreadable=states["unreadable"],
        to_do=len(work),
        video_hours=round(sum(item[1] for item in work), 4),
        frames=sum(item[0] for item in work),
        bytes=sum(estimate_bytes(frames, size, task, model) for frames, _, size, task in work),
        margin=find_margin([item[0] for item in work], len(tasks)),
        seconds=round(measure_model_seconds([(frames, size) for frames, _, size, _ in work], model, work), 6),
    )


def estimate_clip(task: Task, probe: Probe) -> tuple[int, float, tuple[int, int]]:
    """Frames, hours and (height, width) that a clip will probably give once it is read."""
    read = task.read
    told = Numbering.of(read, probe)
    first, stop = told.within(read) if told else (0, read.frames or 1)
    frames, rate = max(1, stop - first), read.fps or probe.rate
    if task.recipe.frames_rule == CUT and task.grid is not None:
        frames -= max(0, frames - task.grid.least) % task.grid.step
    width, height = read.size or (read.crop[2:] if read.crop else (probe.width, probe.height))
    return frames, float((frames / rate) if rate else 0) / 3600, (height, width)


def estimate_bytes(frames: int, size: tuple[int, int], task: Task, model: Model) -> int:
    """Bytes of the latents of a clip; its file has a little more."""
    grid, recipe = model.spec.grid, task.recipe
    t = grid.latents(frames + grid.missing_frames(frames))
    h, w = (-(-side // grid.space) for side in size)
    computed = model.runtime.dtype_name
    item = PACKED_BYTES if recipe.allowed else guess_item_bytes(recipe.store, recipe.pack, computed)
    tensors = 1 + (recipe.posterior == "full") + recipe.first_frame
    return round(t * h * w * model.spec.channels * item * tensors)


def measure_model_seconds(clips: list[tuple[int, tuple[int, int]]], model: Model, work: list) -> float:
    """Seconds that the network needs for clips of (frames, size), from one window of the commonest size."""
    if not clips:
        return 0.0
    size = Counter(size for _, size in clips).most_common(1)[0][0]
    plan = work[0][3].recipe.plan
    count = plan.encode_time.longest or 17
    frames = [np.zeros((*size, 3), np.uint8)] * count
    times = []
    for _ in range(2):  # the first one warms up
        model.runtime.synchronise()
        began = time.perf_counter()
        for _ in model.encode_stream(iter(frames), plan):
            model.runtime.synchronise()
        times.append(time.perf_counter() - began)
    per_pixel = times[-1] / (count * size[0] * size[1])
    passes = 2 if work[0][3].recipe.first_frame else 1
    return passes * per_pixel * sum(frames * height * width for frames, (height, width) in clips)
