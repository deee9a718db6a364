"""Frames too large for memory: tile by tile through the network, and blended back in raster order."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vidlatent.models.causal import TimeState
from vidlatent.precision import true_float32
from vidlatent.windows import Tiles, Tiling

Apply = Callable[[Tensor, TimeState], Iterator[Tensor]]


class TileStates:
    """One `TimeState` per tile position: what a network remembers when frames are cut in space.

    `past` is how many latents back a network whose state grows may look; 0 is all.
    """

    def __init__(self, past: int = 0) -> None:
        self._past = past
        self._states: dict[tuple[int, int], TimeState] = {}

    def at(self, row: int, column: int, more: bool) -> TimeState:
        """The state of this tile, told whether the clip goes on."""
        state = self._states.setdefault((row, column), TimeState(past=self._past))
        state.more = more
        return state


def through_tiles(
    apply: Apply, x: Tensor, tiles: Tiles | None, states: TileStates, more: bool
) -> Iterator[Tensor]:
    """What `apply` makes of [B, C, T, H, W], in float32: frames in pieces, or all tiles blended into one."""
    if tiles is None:
        yield from in_float32(apply, x, states.at(0, 0, more))
        return
    rows, columns = tiles
    across = columns.spans(x.shape[-1])
    pieces = [
        in_float32(apply, x[..., top:bottom, left:right], states.at(i, j, more))
        for i, (top, bottom) in enumerate(rows.spans(x.shape[-2]))
        for j, (left, right) in enumerate(across)
    ]
    for done in zip(*pieces, strict=True):  # in step: no tile gives its whole window before the next begins
        yield blended(
            [list(done[i : i + len(across)]) for i in range(0, len(done), len(across))], rows, columns
        )


def in_float32(apply: Apply, x: Tensor, state: TimeState) -> Iterator[Tensor]:
    """What `apply` makes of `x` as float32, all of it computed without gradients, and in float32 where it is.

    Both are settings of the process or the thread, so they hold while a piece is made and not while the
    caller works on it.
    """
    with true_float32(), torch.inference_mode():
        pieces = apply(x, state)  # where some already compute
    del x
    while True:
        with true_float32(), torch.inference_mode():
            piece = next(pieces, None)
            if piece is None:
                return
            piece = piece.float()
        yield piece
        del piece  # what comes next does not stand beside it


def blended(done: list[list[Tensor]], rows: Tiling, columns: Tiling) -> Tensor:
    """One frame of tiles [B, C, T, h, w]. In place and in raster order, as the reference does:

    each tile is first blended with the (already blended) tile above, then with the one to its left,
    and only then cut to what it contributes.
    """
    kept = []
    for i, row in enumerate(done):
        for j, tile in enumerate(row):
            if i > 0:
                fade(done[i - 1][j], tile, rows.blend, dim=-2, grain=rows.grain)
            if j > 0:
                fade(row[j - 1], tile, columns.blend, dim=-1, grain=columns.grain)
        last_row = i + 1 == len(done)
        parts = [
            crop(crop(tile, rows, last_row, dim=-2), columns, j + 1 == len(row), dim=-1)
            for j, tile in enumerate(row)
        ]
        kept.append(torch.cat(parts, dim=-1))
    return torch.cat(kept, dim=-2)


def crop(tile: Tensor, tiling: Tiling, last: bool, dim: int) -> Tensor:
    """The part of a tile that no later tile of its row or column replaces.

    With slivers every tile is cut, the last ones too: a sliver tile holds what that leaves over.
    """
    if last and not tiling.slivers:
        return tile
    return tile.narrow(dim, 0, min(tiling.keep, tile.shape[dim]))


@torch.inference_mode()
def fade(before: Tensor, tile: Tensor, blend: int, dim: int, grain: int = 1) -> None:
    """Ramp from the last `blend` units of `before` into the first ones of `tile`, in place.

    The weight of the tile at unit k is k / blend: its first unit is entirely its neighbour's, and so are the
    others of the first `grain` units, for so many together have one weight.
    """
    n = min(before.shape[dim], tile.shape[dim], blend)
    if n == 0:
        return
    shape = [1] * tile.dim()
    shape[dim] = n
    steps = torch.arange(n, device=tile.device) // grain * grain
    weight = (steps.to(tile.dtype) / n).view(shape)
    head = tile.narrow(dim, 0, n)
    tail = before.narrow(dim, before.shape[dim] - n, n)
    head.copy_(tail * (1 - weight) + head * weight)
