"""Nearest ×2 and the 3-tap convolution behind it, as smaller convolutions of what was there before.

Of three neighbours in an enlarged row two are copies of one pixel, so an output needs two pixels and two
weights: (w0, w1 + w2) on the first of two copies, (w0 + w1, w2) on the second. In a plane that is 4 kernels
of 2×2 in place of one 3×3 over four times the pixels: 16 products instead of 36, and the same numbers but
for rounding. In time a causal kernel is (w0 + w1, w2) on the first of two equal frames, (w0, w1 + w2) on the
second.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vidlatent.models.clips import as_clip, as_frames, empty_clip
from vidlatent.models.convolution import convolve_clip, convolve_frames


def halves(weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """What a kernel of three taps along `dim` becomes: two of two taps, (w0, w1 + w2) and (w0 + w1, w2)."""
    w0, w1, w2 = weight.float().unbind(dim)
    return torch.stack([w0, w1 + w2], dim), torch.stack([w0 + w1, w2], dim)


def enlarge_frames(
    x: Tensor, weight: Tensor, bias: Tensor | None, pad: int = 1, out: Tensor | None = None
) -> Tensor:
    """Clip [B, C, T, H, W] doubled in space by nearest neighbours, then convolved frame by frame.

    `weight` is [C', C, 3, 3]. With `pad` 1 zeros surround each enlarged frame; with 0 the frames come as
    H + 2 by W + 2, with what surrounds them. Gives [B, C', T, 2H, 2W], in `out` if there is one.
    """

    def convolve(part: Tensor, kernel: Tensor) -> Tensor:
        return as_clip(convolve_frames(as_frames(part), kernel, bias), len(x))

    x = _surrounded(x, pad)
    return _interleave(x, weight, convolve, _room(x, x.shape[2], weight) if out is None else out)


def enlarge_causally(x: Tensor, weight: Tensor, bias: Tensor | None, pad: int = 1) -> Tensor:
    """Frames doubled in space by nearest neighbours, then convolved in time with the two before each.

    `x` [B, C, 2 + T, H, W] begins with the two frames before them, `weight` is [C', C, 3, 3, 3], `pad` as in
    `enlarge_frames`. Gives [B, C', T, 2H, 2W].
    """
    x = _surrounded(x, pad)
    return _interleave(x, weight, partial(convolve_clip, bias=bias), _room(x, x.shape[2] - 2, weight))


def enlarge_pairs(
    x: Tensor, weight: Tensor, bias: Tensor | None, pad: int = 1, out: Tensor | None = None
) -> Tensor:
    """Frames doubled in time and space by nearest neighbours, then convolved causally.

    `x` [B, C, 1 + T, H, W] begins with the frame before them, `weight` is [C', C, 3, 3, 3], `pad` and `out`
    as in `enlarge_frames`. Gives [B, C', 2T, 2H, 2W].
    """
    x, convolve = _surrounded(x, pad), partial(convolve_clip, bias=bias)
    out = _room(x, 2 * (x.shape[2] - 1), weight) if out is None else out
    late, early = halves(weight, 2)
    _interleave(x, early, convolve, out[:, :, 0::2])
    _interleave(x, late, convolve, out[:, :, 1::2])
    return out


def _surrounded(x: Tensor, pad: int) -> Tensor:
    """`x` with so many zeros around each frame: small still, they are the same as around the enlarged one."""
    return F.pad(x, (pad, pad, pad, pad)) if pad else x


def _room(x: Tensor, frames: int, weight: Tensor) -> Tensor:
    """Memory for so many frames of twice the sides of `x`, which come with their borders."""
    height, width = (side - 2 for side in x.shape[3:])
    return empty_clip(x, frames, 2 * height, 2 * width, len(weight))


def _interleave(
    x: Tensor, weight: Tensor, convolve: Callable[[Tensor, Tensor], Tensor], out: Tensor
) -> Tensor:
    """Fill `out` [B, C', T, 2H, 2W] with the four convolutions of `x` that `weight` [..., 3, 3] becomes.

    Each sees all but one of the rows and columns of `x`, which has a border of one pixel.
    """
    weight = weight.movedim(1, -1)  # so that the sums of its taps lie in memory as a convolution wants them
    height, width = (side - 1 for side in x.shape[3:])
    for i, rows in enumerate(halves(weight, -3)):
        for j, kernel in enumerate(halves(rows, -2)):
            part = x[..., i : i + height, j : j + width].contiguous(memory_format=torch.channels_last_3d)
            out[..., i::2, j::2] = convolve(part, kernel.movedim(-1, 1).to(x.dtype))
            del part  # before the next one is made
    return out
