"""A clip of any length through a network: windows × tiles × state, one window in memory at a time."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from torch import Tensor

from vidlatent.engine.tiles import Apply, TileStates, through_tiles
from vidlatent.windows import Tiling, TimeRule, Window, cut

T = TypeVar("T")


def stream(
    apply: Apply,
    items: Iterable[T],
    join: Callable[[list[T]], Tensor],
    rule: TimeRule,
    tiling: Tiling | None,
    outputs: Callable[[int], int],
) -> Iterator[Tensor]:
    """Yield what `apply` makes of a stream of frames (or latent frames), window by window.

    `join` makes [B, C, T, H, W] of a window's items; `outputs` counts what comes of so many. Exact
    rules carry state from window to window; independent windows begin anew, and what their overlap
    gave is dropped. A window may give no output yet (networks that look ahead).
    """
    states = TileStates()
    for window, held, last in cut(items, rule, outputs):
        if not rule.exact:
            states = TileStates()
        x = join(held)
        tiles = None if spared(tiling, x, window, last) else tiling
        y = through_tiles(apply, x, tiles, states, more=rule.exact and not last)
        del x, held  # the next window does not stand beside this one
        yield y[:, :, window.drop :]
        del y


def spared(tiling: Tiling | None, x: Tensor, window: Window, last: bool) -> bool:
    """Whether a clip that is one window and no larger than one tile goes through whole.

    Rules with slivers (OD-VAE) tile a side between step and size only once anything at all must be
    cut: time included.
    """
    if tiling is None or not tiling.slivers:
        return tiling is None
    only_window = last and window.start == 0
    return only_window and max(x.shape[-2:]) <= tiling.size
