"""Clips become tasks, and machines share the clips by what they cost."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heapify, heapreplace

import torch

from vidlatent.errors import UsageError, parameter
from vidlatent.grid import Grid
from vidlatent.jobs.cache.entry import Task
from vidlatent.jobs.cache.key import ModelIdentity, make_entry_key, make_off_grid_key, make_recipe_id
from vidlatent.jobs.cache.recipe import Cut, Recipe, adapt_to_clip, cut_into_clips
from vidlatent.jobs.cache.scan import Clip
from vidlatent.jobs.reading.survey import Probe, Seen


@dataclass(frozen=True)
class Part:
    """Part `index` of `count` parts of about equal cost: what one machine takes of all clips.

    `told_by` names who chose it, where that was not the user.
    """

    index: int = 0
    count: int = 1
    told_by: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.count > MOST_PARTS:
            raise UsageError(f"{parameter('shard')} {self.index}/{self.count}: more than {MOST_PARTS} parts")
        if not 0 <= self.index < self.count:
            raise UsageError(
                f"{parameter('shard')} {self.index}/{self.count}: no such part",
                f"I/N counts from nought: 0/{max(1, self.count)} is the first of {max(1, self.count)}",
            )


MOST_PARTS = 1 << 20
ALL = Part()
_FIRST_OWN_STEP = 0xFFFFFFF0  # of SLURM: steps from here on are not started by srun: batch, interactive


def choose_part(text: str | None, environment: Mapping[str, str] = os.environ) -> Part:
    """The part that "i/n" names; without a text the one that torchrun or SLURM say, or else all clips."""
    if text is not None:
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise UsageError(f"{parameter('shard')} {text}: not a part", "give I/N, for instance 0/4")
        return Part(int(index), int(count))
    outer, inner = _find_array_task(environment), _find_step_task(environment)
    index, count = outer.index * inner.count + inner.index, outer.count * inner.count
    return Part(index, count, " and ".join(filter(None, (outer.told_by, inner.told_by))))


def choose_device(environment: Mapping[str, str] = os.environ) -> str | None:
    """The GPU that torchrun or SLURM gave this process; None where there is no choice to make."""
    known = {"LOCAL_RANK": _is_torchrun(environment), "SLURM_LOCALID": _is_slurm_step(environment)}
    name = next((name for name, real in known.items() if real and name in environment), None)
    if name is None or torch.cuda.device_count() < 2:
        return None
    return f"cuda:{_read(environment, name) % torch.cuda.device_count()}"


def _is_torchrun(environment: Mapping[str, str]) -> bool:
    """Whether torchrun started this process: RANK alone may have been set for another program."""
    return "TORCHELASTIC_RUN_ID" in environment


def _is_slurm_step(environment: Mapping[str, str]) -> bool:
    """Whether srun started this process as one of the tasks of a step.

    A batch script and an interactive shell have SLURM_PROCID 0 and the SLURM_NTASKS of the whole job, but
    what is started there without srun runs once.
    """
    step = environment.get("SLURM_STEP_ID", environment.get("SLURM_STEPID", ""))
    return step.isdecimal() and int(step) < _FIRST_OWN_STEP


def _find_step_task(environment: Mapping[str, str]) -> Part:
    """Which of the processes that were started together this one is."""
    if _is_torchrun(environment):
        return Part(_read(environment, "RANK"), _read(environment, "WORLD_SIZE"), "torchrun")
    if not _is_slurm_step(environment):
        return ALL
    tasks = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    if tasks not in environment:
        return ALL
    return Part(_read(environment, "SLURM_PROCID"), _read(environment, tasks), "SLURM's step")


def _find_array_task(environment: Mapping[str, str]) -> Part:
    """Which task of a job array this one is; raises UsageError where their numbers are not even steps."""
    names = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN", "MAX", "STEP")]
    if names[0] not in environment or names[1] not in environment:
        return ALL
    task, count = (_read(environment, name) for name in names[:2])
    first = _read(environment, names[2], 0)
    step = _read(environment, names[4], 1) or 1
    last = _read(environment, names[3], first + (count - 1) * step)
    index, rest = divmod(task - first, step)
    if rest or last != first + (count - 1) * step:
        raise UsageError(
            f"job array of {count} tasks from {first} to {last}: {task} cannot be placed among them",
            f"number the tasks evenly, or give {parameter('shard')} I/N",
        )
    return Part(index, count, "SLURM's job array")


def _read(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        raise UsageError(
            f"{name}={text}: not a number, so nobody can say which clips are meant",
            f"give {parameter('shard')} I/N",
        )
    return int(text)


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
    def grid(self) -> Grid | None:
        """The grid of the model."""
        return self.model.facts.get("grid")  # type: ignore[return-value]

    @property
    def recipe_id(self) -> str:
        """The name of what this run asks for."""
        return make_recipe_id(self.recipe, self.model)

    def plan(self, found: Iterable[tuple[Clip, Seen]]) -> Iterator[Task]:
        """The tasks of every clip: one, or one for each part where several clips are made of a video."""
        name = self.recipe_id
        for clip, seen in found:
            recipe = adapt_to_clip(apply_clip_times(self.recipe, clip), seen.probe)
            for cut in cut_into_clips(recipe, seen.probe):
                yield self._make_task(clip, seen, recipe, cut, name)

    def _make_task(self, clip: Clip, seen: Seen, recipe: Recipe, cut: Cut, name: str) -> Task:
        read = replace(recipe.read, start=cut.start, end=cut.end, frames=cut.frames)
        part = replace(recipe, read=read, chunk_s=None, take=None)
        known = seen.sha256 and clip.error is None  # a clip refused for its caption says no key
        return Task(
            clip=clip,
            recipe=part,
            recipe_id=name,
            key=make_entry_key(seen.sha256, part, self.model) if known else "",
            off_grid_key=make_off_grid_key(seen.sha256, part, self.model, cut.exact) if known else "",
            source_sha256=seen.sha256,
            error=clip.error or seen.error,
            state=seen.state,
            grid=self.grid,
            first_frame=cut.first,
            wanted=cut.frames if cut.exact else None,
            left_out=cut.left_out,
        )


def apply_clip_times(recipe: Recipe, clip: Clip) -> Recipe:
    """The recipe with the times that a table says for this clip alone."""
    own = {name: value for name in ("start", "end", "frames") if (value := getattr(clip, name)) is not None}
    return replace(recipe, read=replace(recipe.read, **own)) if own else recipe
