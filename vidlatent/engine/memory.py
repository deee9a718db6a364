"""Memory as a promise: choose how a clip goes through a network such that it keeps within a limit."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from math import inf, isfinite
from pathlib import Path

from vidlatent.allocator import hold_tight
from vidlatent.engine.demand import UnknownLength, Workload, demand
from vidlatent.engine.host_memory import available_bytes, resident_bytes
from vidlatent.engine.model import Model
from vidlatent.engine.plan import PlanWishes, plan_for
from vidlatent.engine.room import most_bytes
from vidlatent.engine.scratch import Scratch
from vidlatent.errors import OutOfResources, UsageError, parameter
from vidlatent.models.base import ModelSpec
from vidlatent.windows import Plan

QUEUES_BYTES = 200 << 20  # read-ahead of frames, codecs
HOLES = 0.6  # of what a clip needs, in free blocks that the allocator keeps for large pictures: up to 0.55
SMALLEST_TILE_PX = 64


@dataclass(frozen=True)
class Fit:
    """How a clip goes through a network, and what must be said of how that came to be.

    `passes` is how often the source is read: once, or once for every tile where each tile goes through the
    whole clip before the next one does. That changes memory and time and nothing else; see `tilewise`.
    """

    plan: Plan
    notices: tuple[str, ...] = ()
    passes: int = 1

    @contextmanager
    def scratch(self, target: Path | None) -> Iterator[Scratch | None]:
        """Where tiles wait for each other, beside `target` while the block runs; None where they need not."""
        if self.passes == 1:
            yield None
        else:
            with Scratch(target) as scratch:
                yield scratch


@dataclass(frozen=True)
class Way:
    """A plan that may keep within a limit, and its words; with `tilewise` one tile of the clip at a time."""

    plan: Plan
    words: str = ""
    tilewise: bool = False


def settle(model: Model, plan: Plan, work: Workload, limit: int | None = None) -> Fit:
    """How to put a clip through: as `plan` says, unless memory forbids it.

    Without a limit in bytes, an exact model runs as asked, others within what the device has free.
    """
    if limit is None:
        limit = None if model.spec.exact else available_bytes(model.runtime.device)
    return fit(model, plan, work, limit) if limit else Fit(plan)


def settle_both(model: Model, plan: Plan, work: Workload, limit: int) -> Fit:
    """How to encode a clip and decode it at the same time: each takes half of what the weights leave.

    `work` is encoding. Both read the clip once.
    """
    fixed = fixed_bytes(model) + QUEUES_BYTES
    half = fixed + (limit - fixed) // 2
    work = replace(work, rereadable=False)
    encode = fit(model, plan, work, half)
    decode = fit(model, encode.plan, replace(work, encode=False), half)
    return Fit(decode.plan, tuple(dict.fromkeys((*encode.notices, *decode.notices))))


def fit(model: Model, plan: Plan, work: Workload, limit: int) -> Fit:
    """The first way that keeps within `limit` bytes, or OutOfResources where not even the last does.

    As asked, which is not even looked into where there is surely room; else what gives the same: shorter
    chunks (exact models), then the tiles that were asked for one by one; else the largest tiles that fit, all
    those of a window at once if that is enough, or one by one.
    """
    fixed = fixed_bytes(model) + QUEUES_BYTES
    if fixed + (1 + HOLES) * most_bytes(model, plan, work) <= limit:
        return Fit(plan)
    return find_fit(model, plan, work, limit, fixed)


def find_fit(model: Model, plan: Plan, work: Workload, limit: int, fixed: int) -> Fit:
    """Do what `fit` does, by traces; so many bytes of the limit are `fixed`."""

    @cache
    def need(way: Way) -> float:
        return fixed + needed_bytes(model, way.plan, work, way.tilewise)

    last = asked = Way(plan)
    for ways in kinds_of_ways(model, asked, work):
        if (way := first_within(ways, limit, need)) is not None:
            if need(way) + HOLES * (need(way) - fixed) > limit and model.runtime.device.type == "cpu":
                hold_tight()
            return Fit(plan) if way == asked else told(model, way, work, limit, need(way))
        last = ways[-1]
    if not isfinite(need(last)):
        return Fit(plan, ("it goes through in one piece of unknown length: no promise about memory",))
    hint = f"raise {parameter('max_memory')}, use a smaller {parameter('size')}, or {parameter('dtype')} bf16"
    rule = last.plan.encode_time if work.encode else last.plan.decode_time
    if not rule.stride and not rule.carries:
        window = parameter("window") if work.encode else parameter("latent_window")
        hint = f"{window} N cuts the clip, and approximates what the whole gives; or {hint}"
    if frames := frames_that_fit(model, last, work, limit - fixed):
        latents = model.spec.grid.latents(frames)
        hint = (
            f"its first {frames} frames fit: {parameter('past')} {latents} looks no further back; or {hint}"
        )
    raise OutOfResources(
        f"{model.spec.name} at {work.width}x{work.height} does not fit {limit / 1e9:.2f} GB: "
        f"the smallest plan needs about {need(last) / 1e9:.2f} GB",
        hint,
    )


def frames_that_fit(model: Model, way: Way, work: Workload, limit: int) -> int:
    """How many frames of a clip fit whose state grows; 0 where not even a few do, or nothing grows."""
    rule = way.plan.encode_time if work.encode else way.plan.decode_time
    if not model.spec.grows or not rule.stride or rule.past or not work.frames:
        return 0
    few = 4 * rule.stride * (1 if work.encode else model.spec.grid.time)  # no more is traced for longer ones
    lengths = range(few, work.frames)

    def need(frames: int) -> float:
        return needed_bytes(model, way.plan, replace(work, frames=frames), way.tilewise)

    fitting = bisect_right(lengths, limit, key=need)
    return lengths[fitting - 1] if fitting else 0


def needed_bytes(model: Model, plan: Plan, work: Workload, tilewise: bool = False) -> float:
    """Peak bytes of a clip on its way through the network, without the weights; inf where nobody can know."""
    try:
        need = demand(model, plan, work)
    except UnknownLength:
        return inf
    return need.by_tile if tilewise else need.by_window


def first_within(ways: list[Way], limit: int, need: Callable[[Way], float]) -> Way | None:
    """The first of ways that need less and less, found by halves; None where not even the last will do."""
    found, low, high = None, 0, len(ways)
    while low < high:
        middle = (low + high) // 2
        if need(ways[middle]) <= limit:
            found, high = ways[middle], middle
        else:
            low = middle + 1
    return found


def kinds_of_ways(model: Model, asked: Way, work: Workload) -> Iterator[list[Way]]:
    """Ways to put a clip through, kind by kind as they are preferred; in each, later ones need less."""
    yield [asked]
    spec, plan = model.spec, asked.plan
    time, tiles = ("encode_time", "encode_tiles") if work.encode else ("decode_time", "decode_tiles")
    if spec.exact:  # its chunks change nothing but memory
        plan = replace(
            plan, **{time: replace(getattr(plan, time), stride=spec.grid.time if work.encode else 1)}
        )
        yield [Way(plan, f"chunks of {spec.grid.time} frames")]
    one_by_one = getattr(plan, time).carries and work.rereadable
    given = getattr(plan, tiles)
    if given and one_by_one:
        yield [Way(plan, "one tile after the other", tilewise=True)]
    largest = plan.encode_tiles.size if plan.encode_tiles else max(work.height, work.width)
    if tiled := [Way(cut, f"tiles of {px} px") for px, cut in smaller_tiles(spec, plan, largest)]:
        yield tiled
        if one_by_one:
            yield [Way(way.plan, f"{way.words}, one after the other", tilewise=True) for way in tiled]


def smaller_tiles(spec: ModelSpec, plan: Plan, below: int) -> list[tuple[int, Plan]]:
    """The plan with smaller and smaller tiles, and their sides in pixels; none where frames cannot be cut.

    Each is at least an eighth smaller than the one before: few enough to look at, and close enough.
    """
    found: list[tuple[int, Plan]] = []
    sizes = range((below - 1) // 8 * 8, SMALLEST_TILE_PX - 1, -8) if spec.tiles else ()
    for tile in sizes:
        if found and found[-1][0] * 7 // 8 < tile != SMALLEST_TILE_PX:
            continue
        with suppress(UsageError):  # not every size suits every rule
            found.append((tile, plan.tiled_as(plan_for(spec, PlanWishes(tile=tile)))))
    return found


def told(model: Model, way: Way, work: Workload, limit: int, need: float) -> Fit:
    """A way that was found, and why it was taken."""
    passes = demand(model, way.plan, work).passes if way.tilewise else 1
    again = f"; the source is read {passes} times" if way.tilewise else ""
    why = f"{way.words}, to keep within {limit / 1e9:.1f} GB (needs about {need / 1e9:.1f} GB{again})"
    return Fit(way.plan, (why,), passes)


def fixed_bytes(model: Model) -> int:
    """What is taken before any window: on a GPU the weights, on the host all of this process."""
    if model.runtime.device.type == "cpu":
        return resident_bytes()
    return sum(p.numel() * p.element_size() for p in model.network.parameters())
