"""What a clip takes in a network at most, told from its widths alone: so that little clips need no trace.

Tracing takes some tenths of a second, which is much beside a few small frames. The bound is a multiple of
what a trace finds, and of use where that fits all the same.
"""

from functools import partial
from math import inf

from torch import nn

from vidlatent.engine.demand import UnknownLength, Workload, demand
from vidlatent.engine.footprint import Call, Footprint, Network
from vidlatent.engine.model import Model
from vidlatent.windows import Plan

# So many tensors of a clip's own size, as wide as the widest layer, hold what is alive at once. Layers are
# wide where pictures are small, so traces of the networks here find at most 1.7; `test_room.py` compares.
ALIVE = 3


def most_bytes(model: Model, plan: Plan, work: Workload) -> float:
    """What `needed_bytes` is surely no more than; inf where windows carry state, which widths do not tell."""
    rule = plan.encode_time if work.encode else plan.decode_time
    if rule.carries:
        return inf
    try:
        return demand(
            model, plan, work, partial(bound_footprint, find_most_channels(model.network))
        ).by_window
    except UnknownLength:
        return inf


def find_most_channels(network: nn.Module) -> int:
    """The channels of the widest layer."""
    return max((max(weight.shape[:2]) for weight in network.parameters() if weight.dim() > 1), default=0)


def bound_footprint(
    channels: int, network: Network, calls: tuple[Call, ...], height: int, width: int, past: int = 0
) -> Footprint:
    """The most that `footprint` can find of independent windows, where no layer has more `channels`.

    Attention adds what each position of a latent frame makes of each other.
    """
    grid, (frames, _) = network.spec.grid, max(calls)
    if network.encode:
        pixels, latents, each = frames * height * width, grid.latents(frames), height * width // grid.space**2
    else:
        pixels, latents, each = grid.frames(frames) * height * width * grid.space**2, frames, height * width
    return Footprint((ALIVE * channels * pixels + 2 * latents * each**2) * network.dtype.itemsize, 0)
