"""From what a user asks (a window, a tile) to a `Plan`, or an error that names what would fit."""

from dataclasses import dataclass, replace

from vidlatent.errors import UsageError, parameter
from vidlatent.grid import Grid
from vidlatent.models.base import ModelSpec, WindowRule
from vidlatent.windows import Plan, TimeRule

QUICK_PIXELS = 16 * 854 * 480  # of all frames of a call: what Pocket's own sixteen have at 854×480
GPU_PIXELS = 33 * 1920 * 1080  # the same on a GPU, for models that go through it in longer calls


@dataclass(frozen=True)
class PlanWishes:
    """How clips are to be cut, where not as the model's own plan says; None leaves it as it is."""

    window: int | None = None  # frames encoded at once; 0: all
    latent_window: int | None = None  # latent frames decoded at once; 0: all
    tile: int | None = None  # side of a tile in pixels; 0: whole frames
    overlap: float | None = None  # fraction of a tile that neighbours share
    name: str | None = None  # of the model's plans, the one to begin with
    past: int | None = None  # latent frames that state may look back which grows with the clip; 0: all


def plan_for(spec: ModelSpec, wishes: PlanWishes = PlanWishes(), own: Plan | None = None) -> Plan:
    """Make the plan of a model with these wishes; raises UsageError where they do not fit it.

    `own` is the plan to begin with where no name is wished, by default the model's.
    """
    own = own or spec.plan if wishes.name is None else _named(spec, wishes.name)
    plan = Plan(
        _encode_rule(spec, own.encode_time, wishes.window),
        _decode_rule(spec, own.decode_time, wishes.latent_window),
    )
    if wishes.past is not None:
        plan = _limited(plan, spec, wishes.past)
    if wishes.tile is None and wishes.overlap is None:
        return plan.tiled_as(own)
    tile = wishes.tile
    if tile is None and own.decode_tiles is not None:
        tile = own.decode_tiles.size * spec.grid.space
    return _tiled(plan, spec, tile, wishes.overlap)


def suited(plan: Plan, spec: ModelSpec, height: int, width: int, on_gpu: bool = False) -> Plan:
    """`plan` for frames of this size: large ones go through an exact model's own chunks fewer at a time.

    On a GPU a small model's chunks are longer instead, for there each call costs what it takes to launch it.
    Chunks of exact models change nothing but speed and memory. Those that a user chose stay.
    """
    longer = spec.longer_on_gpu if on_gpu else 1
    pixels = QUICK_PIXELS if longer == 1 else GPU_PIXELS
    latents = max(1, pixels // (spec.grid.time * height * width))

    def rule(asked: TimeRule, own: TimeRule, each: int) -> TimeRule:
        free = own.exact and own.stride and asked == replace(own, past=asked.past)
        return replace(asked, stride=min(own.stride * longer, latents * each)) if free else asked

    return replace(
        plan,
        encode_time=rule(plan.encode_time, spec.plan.encode_time, spec.grid.time),
        decode_time=rule(plan.decode_time, spec.plan.decode_time, 1),
    )


def _named(spec: ModelSpec, name: str) -> Plan:
    if name not in spec.plans:
        names = ", ".join(spec.plans)
        raise UsageError(
            f"{parameter('name')} {name}: {spec.name} has no plan of that name",
            f"it has {names}" if names else f"leave {parameter('name')} out: none of its plans has a name",
        )
    return spec.plans[name]


def _limited(plan: Plan, spec: ModelSpec, past: int) -> Plan:
    """`plan` with so many latent frames as the most that growing state may look back."""
    if not spec.grows:
        raise UsageError(
            f"{parameter('past')} {past}: {spec.name} remembers as much of a long clip as of a short one",
            f"leave {parameter('past')} out",
        )
    if past < 0:
        raise UsageError(f"{parameter('past')} {past}: must be latent frames, or 0 for the whole clip")
    encode, decode = (replace(rule, past=past) for rule in (plan.encode_time, plan.decode_time))
    return replace(plan, encode_time=encode, decode_time=decode)


def _encode_rule(spec: ModelSpec, own: TimeRule, window: int | None) -> TimeRule:
    if window is None:
        return own
    if window == 0:
        return replace(own, stride=0, blend=0)
    if spec.windows is not None:
        return _by_rule(spec.windows, window, f"{parameter('window')} {window}")[0]
    stride = window - max(1, own.overlap)
    if stride < spec.grid.step or stride % spec.grid.step:
        good = _good_windows(spec.grid, window, own.overlap)
        raise UsageError(f"{parameter('window')} {window}: {spec.name} {good}")
    return replace(own, stride=stride)


def _good_windows(grid: Grid, window: int, overlap: int) -> str:
    lead = max(1, overlap)
    below = max(1, (window - lead) // grid.step)
    near = [lead + grid.step * k for k in (below, below + 1)]
    return f"takes windows of {lead} + {grid.step}·k frames, for instance {near[0]} or {near[1]}"


def _decode_rule(spec: ModelSpec, own: TimeRule, latent_window: int | None) -> TimeRule:
    if latent_window is None:
        return own
    if latent_window == 0:
        return replace(own, stride=0, blend=0)
    if spec.windows is not None:
        asked = f"{parameter('latent_window')} {latent_window}"
        return _by_rule(spec.windows, spec.grid.frames(latent_window), asked)[1]
    lead, step = max(1, own.overlap), spec.grid.step // spec.grid.time
    stride = latent_window - lead
    if stride < step or stride % step:
        good = f"at least {lead + 1} latents" if step == 1 else f"{lead} + {step}·k latents"
        raise UsageError(f"{parameter('latent_window')} {latent_window}: {spec.name} takes {good}")
    return replace(own, stride=stride)


def _by_rule(rule: WindowRule, frames: int, asked: str) -> tuple[TimeRule, TimeRule]:
    """Cut by the model's own rule in windows of so many frames; an error names what was `asked`."""
    try:
        return rule(frames)
    except UsageError as e:
        raise UsageError(f"{asked}: {e.what}", e.hint) from e


def _tiled(plan: Plan, spec: ModelSpec, tile: int | None, overlap: float | None) -> Plan:
    """`plan` with tiles `tile` pixels high, as wide as the model has them to their height."""
    if tile == 0:
        return plan
    if spec.tiles is None:
        raise UsageError(
            f"{parameter('tile')}: {spec.name} cannot be cut in space", f"leave {parameter('tile')} out"
        )
    if tile is None:
        raise UsageError(
            f"{parameter('overlap')} means nothing without tiles", f"add {parameter('tile')} PIXELS"
        )
    if tile < 2 * spec.grid.space or tile % spec.grid.space:
        low = max(2, tile // spec.grid.space) * spec.grid.space
        raise UsageError(
            f"{parameter('tile')} {tile}: {spec.name} takes multiples of {spec.grid.space} px, "
            f"for instance {low} or {low + spec.grid.space}"
        )
    if overlap is not None and not 0 <= overlap < 1:
        raise UsageError(f"{parameter('overlap')} {overlap}: must be a fraction from 0 to below 1")
    rows = spec.tiles(tile, spec.tile_overlap if overlap is None else overlap)
    plan = replace(plan, encode_tiles=rows[0], decode_tiles=rows[1])
    if spec.tile_columns is None:
        return plan
    columns = spec.tile_columns
    width = max(2, int(tile * columns.width) // spec.grid.space) * spec.grid.space
    cut = spec.tiles(width, columns.overlap if overlap is None else overlap)
    return replace(plan, encode_columns=cut[0], decode_columns=cut[1])
