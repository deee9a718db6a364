"""Clips become tasks, and machines share the clips by what they cost."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heapreplace

import torch

from vidlatent.errors import UsageError, parameter
from vidlatent.jobs.cache.entry import Task
from vidlatent.jobs.cache.key import ModelIdentity, make_entry_key, make_recipe_id
from vidlatent.jobs.cache.recipe import Recipe, adapt_to_clip, cut_into_spans
from vidlatent.jobs.cache.scan import Clip
from vidlatent.jobs.reading.survey import Probe, Seen


@dataclass(frozen=True)
class Part:
    """Part `index` of `count` parts of about equal cost: what one machine takes of all clips."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise UsageError(
                f"{parameter('shard')} {self.index}/{self.count}: no such part",
                f"I/N counts from nought: 0/{max(1, self.count)} is the first of {max(1, self.count)}",
            )


ALL = Part()


def choose_part(text: str | None, environment: Mapping[str, str] = os.environ) -> Part:
    """The part that "i/n" names; without a text the one that torchrun or SLURM say, or else all clips."""
    if text is not None:
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise UsageError(f"{parameter('shard')} {text}: not a part", "give I/N, for instance 0/4")
        return Part(int(index), int(count))
    for rank, world, first in (
        ("RANK", "WORLD_SIZE", None),
        ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
        ("SLURM_PROCID", "SLURM_NTASKS", None),
    ):
        if rank in environment and world in environment:
            offset = int(environment.get(first, "0")) if first else 0
            return Part(int(environment[rank]) - offset, int(environment[world]))
    return ALL


def choose_device(environment: Mapping[str, str] = os.environ) -> str | None:
    """The GPU that torchrun or SLURM gave this process; None where there is no choice to make."""
    rank = environment.get("LOCAL_RANK", environment.get("SLURM_LOCALID"))
    if rank is None or torch.cuda.device_count() < 2:
        return None
    return f"cuda:{int(rank) % torch.cuda.device_count()}"


def estimate_cost(probe: Probe | None) -> int:
    """About how many frames × pixels must be read of a clip; 1 where nothing is known of it."""
    if probe is None:
        return 1
    return (probe.frames or 1) * probe.width * probe.height


def pick_share(costs: Sequence[tuple[int, str]], part: Part) -> set[int]:
    """The indices of one part's clips; all clips are given as (cost, name).

    The dearest clips are given away first, each to the part that has the least to do so far. Names break
    ties, so machines that see the same clips agree on who takes which.
    """
    loads = [(0, index) for index in range(part.count)]
    heapify(loads)
    mine = set()
    for index in sorted(range(len(costs)), key=lambda i: (-costs[i][0], costs[i][1])):
        load, least = loads[0]
        heapreplace(loads, (load + costs[index][0], least))
        if least == part.index:
            mine.add(index)
    return mine


@dataclass(frozen=True)
class Planner:
    """Makes tasks with keys of clips and what was seen of them."""

    recipe: Recipe
    model: ModelIdentity

    @property
    def recipe_id(self) -> str:
        """The name of what this run asks for."""
        return make_recipe_id(self.recipe, self.model)

    def plan(self, found: Iterable[tuple[Clip, Seen]]) -> Iterator[Task]:
        """The tasks of every clip: one, or one for each span where long videos are cut."""
        name = self.recipe_id
        for clip, seen in found:
            recipe = adapt_to_clip(apply_clip_times(self.recipe, clip), seen.probe)
            for start, end in cut_into_spans(recipe, seen.probe):
                part = replace(recipe, read=replace(recipe.read, start=start, end=end), chunk_s=None)
                known = seen.sha256 and clip.error is None  # a clip refused for its caption says no key
                key = make_entry_key(seen.sha256, part, self.model) if known else ""
                yield Task(clip, part, name, key, seen.sha256, clip.error or seen.error, seen.state)


def apply_clip_times(recipe: Recipe, clip: Clip) -> Recipe:
    """The recipe with the times that a table says for this clip alone."""
    own = {name: value for name in ("start", "end", "frames") if (value := getattr(clip, name)) is not None}
    return replace(recipe, read=replace(recipe.read, **own)) if own else recipe
