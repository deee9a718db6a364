"""Clips in memory: [B, C, T, H, W], channels last.

That layout makes a fold of frames into the batch free, lets a norm write behind room left for a
causal convolution's leading frames, and is the one convolutions run fastest in on a CPU.
"""

from torch import Tensor


def empty_clip(like: Tensor, frames: int, height: int, width: int, channels: int | None = None) -> Tensor:
    """Uninitialised clip [B, C, frames, height, width], channels last, of the kind of `like`."""
    return like.new_empty(like.shape[0], frames, height, width, channels or like.shape[1]).movedim(-1, 1)


def as_frames(x: Tensor) -> Tensor:
    """Clip [B, C, T, H, W] → frames [B·T, C, H, W]."""
    return x.transpose(1, 2).flatten(0, 1)


def as_clip(frames: Tensor, batch: int) -> Tensor:
    """Frames [B·T, C, H, W] → clip [B, C, T, H, W]."""
    return frames.unflatten(0, (batch, -1)).transpose(1, 2)


def fold_cubes(x: Tensor, frames: int, side: int) -> Tensor:
    """[B, C, T, H, W] → [B·T/frames, frames·side·side·C, H/side, W/side], channels-last; C varies fastest."""
    x = x.unflatten(4, (-1, side)).unflatten(3, (-1, side)).unflatten(2, (-1, frames))
    x = x.permute(0, 2, 4, 6, 3, 5, 7, 1)  # B t h w, frames side side C
    return x.flatten(4).flatten(0, 1).movedim(-1, 1)


def unfold_cubes(x: Tensor, batch: int, frames: int, side: int) -> Tensor:
    """[B·t, frames·side·side·C, h, w] → [B, C, t·frames, h·side, w·side], channels-last."""
    x = x.movedim(1, -1).unflatten(0, (batch, -1)).unflatten(-1, (frames, side, side, -1))
    x = x.permute(0, 1, 4, 2, 5, 3, 6, 7)  # B, t frames, h side, w side, C
    return x.flatten(5, 6).flatten(3, 4).flatten(1, 2).movedim(-1, 1)


def repeat_first(x: Tensor, front: int) -> Tensor:
    """`x` with `front` copies of its first frame before it: what a causal convolution sees at the start."""
    if not front:
        return x
    out = empty_clip(x, x.shape[2] + front, *x.shape[3:])
    out[:, :, front:] = x
    out[:, :, :front] = x[:, :, :1]
    return out
