"""A clip of any length through a network: windows × tiles × state, one window in memory at a time."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from torch import Tensor

from vidlatent.engine.tiles import Apply, TileStates, fade, through_tiles
from vidlatent.models.causal import whole
from vidlatent.windows import Tiles, TimeRule, Window

T = TypeVar("T")


def stream(
    apply: Apply,
    cuts: Iterable[tuple[Window, list[T], bool]],
    join: Callable[[list[T]], Tensor],
    rule: TimeRule,
    tiles: Tiles | None,
) -> Iterator[Tensor]:
    """Yield what `apply` makes of a stream of frames (or latent frames), in pieces of at least one frame.

    `cuts` are the windows of the stream as `rule` makes them (see `windows.cut`), and `join` makes
    [B, C, T, H, W] of a window's items. Where the rule carries state it goes from window to window;
    otherwise each window begins anew, and what its overlap gave is dropped or blended.
    """
    states, waiting = TileStates(rule.past), None
    for window, items, last in cuts:
        if not rule.carries:
            states = TileStates(rule.past)
        x = join(items)
        how = None if goes_whole(tiles, *x.shape[-2:], last and window.start == 0) else tiles
        pieces = skip(through_tiles(apply, x, how, states, more=rule.carries and not last), window.drop)
        del x, items  # the next window does not stand beside this one
        if rule.blend:
            final, waiting = blended_in_time(waiting, pieces, rule.blend, window.keep)
            pieces = iter([final])
            del final
        yield from filter(has_frames, pieces)
    if waiting is not None:
        yield from filter(has_frames, [waiting])


def goes_whole(tiles: Tiles | None, height: int, width: int, only_window: bool) -> bool:
    """Whether frames of this size are not cut into tiles although there is a rule for it.

    Rules with slivers and no size of their own (OD-VAE) tile a side between step and size only once
    anything at all must be cut: time included.
    """
    if tiles is None:
        return True
    rows, columns = tiles
    if rows.whole is not None and columns.whole is not None:
        return height <= rows.whole and width <= columns.whole
    return rows.slivers and only_window and height <= rows.size and width <= columns.size


def skip(pieces: Iterable[Tensor], frames: int) -> Iterator[Tensor]:
    """`pieces` [B, C, T, H, W] of a clip without its first `frames` frames."""
    for piece in pieces:
        dropped = min(frames, piece.shape[2])
        frames -= dropped
        yield piece[:, :, dropped:]
        del piece  # what comes next does not stand beside it


def blended_in_time(
    waiting: Tensor | None, pieces: Iterable[Tensor], blend: int, keep: int | None
) -> tuple[Tensor, Tensor]:
    """A window's frames, the first of them mixed with those of the window before that wait for it.

    Returns what is final, and what waits for the next window.
    """
    frames = whole(pieces)
    if waiting is not None:
        fade(waiting, frames, blend, dim=2)
    return frames[:, :, :keep], frames[:, :, keep:].clone()


def has_frames(piece: Tensor) -> bool:
    """Whether a piece [B, C, T, H, W] holds any frame: networks that look ahead give none at first."""
    return piece.shape[2] > 0
