"""Who does what: clips become tasks, and machines share them by cost."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heapreplace

import torch

from vidlatent.errors import UsageError, parameter
from vidlatent.jobs.cache.entry import Task
from vidlatent.jobs.cache.key import ModelIdentity, entry_key, recipe_id
from vidlatent.jobs.cache.recipe import Recipe, for_clip, spans
from vidlatent.jobs.cache.scan import Clip
from vidlatent.jobs.reading.survey import Probe, Seen


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count` equal ones."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise UsageError(
                f"{parameter('shard')} {self.index}/{self.count}: no such part",
                f"I/N counts from nought: 0/{max(1, self.count)} is the first of {max(1, self.count)}",
            )


ALL = Shard()


def shard_from(text: str | None, environment: Mapping[str, str] = os.environ) -> Shard:
    """From "i/n"; else from what torchrun or SLURM say in the environment; else all of it."""
    if text is not None:
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise UsageError(f"{parameter('shard')} {text}: not a part", "give I/N, for instance 0/4")
        return Shard(int(index), int(count))
    for rank, world, first in (
        ("RANK", "WORLD_SIZE", None),
        ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
        ("SLURM_PROCID", "SLURM_NTASKS", None),
    ):
        if rank in environment and world in environment:
            offset = int(environment.get(first, "0")) if first else 0
            return Shard(int(environment[rank]) - offset, int(environment[world]))
    return ALL


def device_from(environment: Mapping[str, str] = os.environ) -> str | None:
    """The GPU that torchrun gave this process; None where there is no choice to make."""
    rank = environment.get("LOCAL_RANK", environment.get("SLURM_LOCALID"))
    if rank is None or torch.cuda.device_count() < 2:
        return None
    return f"cuda:{int(rank) % torch.cuda.device_count()}"


def cost(probe: Probe | None) -> int:
    """Frames × pixels that must be read of a clip, about; 1 where nothing is known of it."""
    if probe is None:
        return 1
    return (probe.frames or 1) * probe.width * probe.height


def share(costs: Sequence[tuple[int, str]], shard: Shard) -> set[int]:
    """Indices of the clips, given as (cost, name), of one shard: the dearest first, to whoever has least.

    Names break ties, so every machine that sees the same clips finds the same shares.
    """
    loads = [(0, part) for part in range(shard.count)]
    heapify(loads)
    mine = set()
    for index in sorted(range(len(costs)), key=lambda i: (-costs[i][0], costs[i][1])):
        load, part = loads[0]
        heapreplace(loads, (load + costs[index][0], part))
        if part == shard.index:
            mine.add(index)
    return mine


@dataclass(frozen=True)
class Planner:
    """From clips, and what was seen of them, to tasks with keys."""

    recipe: Recipe
    model: ModelIdentity

    @property
    def recipe_id(self) -> str:
        """The name of what is asked for."""
        return recipe_id(self.recipe, self.model)

    def tasks(self, found: Iterable[tuple[Clip, Seen]]) -> Iterator[Task]:
        """The tasks of every clip, its parts where long videos are cut."""
        name = self.recipe_id
        for clip, seen in found:
            recipe = for_clip(own_recipe(self.recipe, clip), seen.probe)
            for start, end in spans(recipe, seen.probe):
                part = replace(recipe, read=replace(recipe.read, start=start, end=end), chunk_s=None)
                key = entry_key(seen.sha256, part, self.model) if seen.sha256 else ""
                yield Task(clip, part, name, key, seen.sha256, seen.error, seen.state)


def own_recipe(recipe: Recipe, clip: Clip) -> Recipe:
    """The recipe with what a clip's own row of a table says of its times."""
    own = {name: value for name in ("start", "end", "frames") if (value := getattr(clip, name)) is not None}
    return replace(recipe, read=replace(recipe.read, **own)) if own else recipe
