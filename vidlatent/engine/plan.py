"""From what a user asks (a window, a tile) to a `Plan`, or an error that names what would fit."""

from dataclasses import replace

from vidlatent.errors import UsageError, parameter
from vidlatent.grid import Grid
from vidlatent.models.base import ModelSpec
from vidlatent.windows import Plan, TimeRule

QUICK_PIXELS = 16 * 854 * 480  # of all frames of a call: what Pocket's own sixteen have at 854×480


def plan_for(
    spec: ModelSpec,
    window: int | None = None,
    latent_window: int | None = None,
    tile: int | None = None,
    overlap: float | None = None,
) -> Plan:
    """The plan of a model with these wishes: frames, latent frames, pixels, fraction of a tile.

    None is the model's own; 0 is undivided.
    """
    plan = Plan(_encode_rule(spec, window), _decode_rule(spec, latent_window))
    if tile is None and overlap is None:
        return plan.tiled_as(spec.plan)
    return _tiled(plan, spec, tile, overlap)


def shortened(plan: Plan, spec: ModelSpec, height: int, width: int) -> Plan:
    """`plan` for frames of this size: large ones go through an exact model's own chunks fewer at a time.

    Chunks of exact models change nothing but speed and memory. Those that a user chose stay.
    """
    latents = max(1, QUICK_PIXELS // (spec.grid.time * height * width))

    def rule(asked: TimeRule, own: TimeRule, each: int) -> TimeRule:
        free = own.exact and own.stride and asked == own
        return replace(own, stride=min(own.stride, latents * each)) if free else asked

    return replace(
        plan,
        encode_time=rule(plan.encode_time, spec.plan.encode_time, spec.grid.time),
        decode_time=rule(plan.decode_time, spec.plan.decode_time, 1),
    )


def _encode_rule(spec: ModelSpec, window: int | None) -> TimeRule:
    own = spec.plan.encode_time
    if window is None:
        return own
    if window == 0:
        return replace(own, stride=0, blend=0)
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


def _decode_rule(spec: ModelSpec, latent_window: int | None) -> TimeRule:
    own = spec.plan.decode_time
    if latent_window is None:
        return own
    if latent_window == 0:
        return replace(own, stride=0, blend=0)
    lead, step = max(1, own.overlap), spec.grid.step // spec.grid.time
    stride = latent_window - lead
    if stride < step or stride % step:
        good = f"at least {lead + 1} latents" if step == 1 else f"{lead} + {step}·k latents"
        raise UsageError(f"{parameter('latent_window')} {latent_window}: {spec.name} takes {good}")
    return replace(own, stride=stride)


def _tiled(plan: Plan, spec: ModelSpec, tile: int | None, overlap: float | None) -> Plan:
    """`plan` with tiles `tile` pixels high, as wide as the model has them to their height."""
    if tile == 0:
        return plan
    if spec.tiles is None:
        raise UsageError(
            f"{parameter('tile')}: {spec.name} cannot be cut in space", f"leave {parameter('tile')} out"
        )
    if tile is None:
        if spec.plan.encode_tiles is None:
            raise UsageError(
                f"{parameter('overlap')} means nothing without tiles", f"add {parameter('tile')} PIXELS"
            )
        tile = spec.plan.encode_tiles.size
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
