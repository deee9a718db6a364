"""Frames too large for memory: tile by tile through the network, and blended back in raster order."""

from collections.abc import Callable

import torch
from torch import Tensor

from vidlatent.models.causal import TimeState
from vidlatent.precision import true_float32
from vidlatent.windows import Tiling

Apply = Callable[[Tensor, TimeState], Tensor]


class TileStates:
    """One `TimeState` per tile position: what an exact network remembers when frames are cut in space."""

    def __init__(self) -> None:
        self._states: dict[tuple[int, int], TimeState] = {}

    def at(self, row: int, column: int, more: bool) -> TimeState:
        """The state of this tile, told whether the clip goes on."""
        state = self._states.setdefault((row, column), TimeState())
        state.more = more
        return state


@true_float32()
@torch.inference_mode()
def through_tiles(apply: Apply, x: Tensor, tiling: Tiling | None, states: TileStates, more: bool) -> Tensor:
    """`apply` to [B, C, T, H, W] whole, or to each of its tiles, blended in float32 where they overlap."""
    if tiling is None:
        return apply(x, states.at(0, 0, more)).float()
    rows = []
    for i, (top, bottom) in enumerate(tiling.spans(x.shape[-2])):
        row = []
        for j, (left, right) in enumerate(tiling.spans(x.shape[-1])):
            tile = x[..., top:bottom, left:right]
            row.append(apply(tile, states.at(i, j, more)).float())
        rows.append(row)
    return blended(rows, tiling)


def blended(rows: list[list[Tensor]], tiling: Tiling) -> Tensor:
    """One frame of tiles [B, C, T, h, w]. In place and in raster order, as the reference does:

    each tile is first blended with the (already blended) tile above, then with the one to its left,
    and only then cut to what it contributes.
    """
    kept = []
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            if i > 0:
                fade(rows[i - 1][j], tile, tiling.blend, dim=-2)
            if j > 0:
                fade(row[j - 1], tile, tiling.blend, dim=-1)
        kept.append(torch.cat([crop(tile, tiling, i, j, rows) for j, tile in enumerate(row)], dim=-1))
    return torch.cat(kept, dim=-2)


def crop(tile: Tensor, tiling: Tiling, i: int, j: int, rows: list[list[Tensor]]) -> Tensor:
    """The part of a tile that no later tile replaces."""
    if tiling.slivers:  # every tile is cut, the last ones too: a sliver tile holds what that leaves over
        return tile[..., : tiling.keep, : tiling.keep]
    down = tiling.keep if i + 1 < len(rows) else tile.shape[-2]
    right = tiling.keep if j + 1 < len(rows[0]) else tile.shape[-1]
    return tile[..., :down, :right]


def fade(before: Tensor, tile: Tensor, blend: int, dim: int) -> None:
    """Ramp from the last `blend` units of `before` into the first ones of `tile`, in place.

    The weight of the tile at unit k is k / blend: its first unit is entirely its neighbour's.
    """
    n = min(before.shape[dim], tile.shape[dim], blend)
    if n == 0:
        return
    shape = [1] * tile.dim()
    shape[dim] = n
    weight = (torch.arange(n, device=tile.device, dtype=tile.dtype) / n).view(shape)
    head = tile.narrow(dim, 0, n)
    tail = before.narrow(dim, before.shape[dim] - n, n)
    head.copy_(tail * (1 - weight) + head * weight)
