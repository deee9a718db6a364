"""Nearest ×2 and the 3-tap convolution behind it, as smaller convolutions of what was there before.

Of three neighbours in an enlarged row two are copies of one pixel, so an output needs two pixels and two
weights: (w0, w1 + w2) on the first of two copies, (w0 + w1, w2) on the second. In a plane that is 4 kernels
of 2×2 in place of one 3×3 over four times the pixels: 16 products instead of 36, and the same numbers but
for rounding. In time a causal kernel is (w0 + w1, w2) on the first of two equal frames, (w0, w1 + w2) on the
second.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vidlatent.models.clips import as_clip, as_frames, empty_clip
from vidlatent.models.convolution import convolve_clip


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
    frames = as_frames(x)

    def convolve(kernel: Tensor) -> Tensor:
        kernel = kernel.to(x.dtype, memory_format=torch.channels_last)
        return as_clip(F.conv2d(frames, kernel, bias, padding=pad), len(x))

    return _interleave(_room(x, x.shape[2], weight, pad, out), weight, convolve)


def enlarge_causally(x: Tensor, weight: Tensor, bias: Tensor | None, pad: int = 1) -> Tensor:
    """Frames doubled in space by nearest neighbours, then convolved causally in time.

    `x` [B, C, 2 + T, H, W] begins with the two frames before them, `weight` is [C', C, 3, 3, 3], `pad` as in
    `enlarge_frames`. Gives [B, C', T, 2H, 2W].
    """
    return _interleave(_room(x, x.shape[2] - 2, weight, pad), weight, _clip_convolution(x, bias, pad))


def enlarge_pairs(
    x: Tensor, weight: Tensor, bias: Tensor | None, pad: int = 1, out: Tensor | None = None
) -> Tensor:
    """Frames doubled in time and space by nearest neighbours, then convolved causally.

    `x` [B, C, 1 + T, H, W] begins with the frame before them, `weight` is [C', C, 3, 3, 3], `pad` and `out`
    as in `enlarge_frames`. Gives [B, C', 2T, 2H, 2W].
    """
    convolve = _clip_convolution(x, bias, pad)
    out = _room(x, 2 * (x.shape[2] - 1), weight, pad, out)
    late, early = halves(weight, 2)
    _interleave(out[:, :, 0::2], early, convolve)
    _interleave(out[:, :, 1::2], late, convolve)
    return out


def _room(x: Tensor, frames: int, weight: Tensor, pad: int, out: Tensor | None = None) -> Tensor:
    """`out`, or memory for so many frames of twice the sides of `x`, which come with their borders."""
    if out is None:
        height, width = (side - 2 + 2 * pad for side in x.shape[3:])
        out = empty_clip(x, frames, 2 * height, 2 * width, len(weight))
    return out


def _clip_convolution(x: Tensor, bias: Tensor | None, pad: int) -> Callable[[Tensor], Tensor]:
    """What convolves the clip `x` with a kernel that it is given."""

    def convolve(kernel: Tensor) -> Tensor:
        kernel = kernel.to(x.dtype, memory_format=torch.channels_last_3d)
        return convolve_clip(x, kernel, bias, padding=(0, pad, pad))

    return convolve


def _interleave(out: Tensor, weight: Tensor, convolve: Callable[[Tensor], Tensor]) -> Tensor:
    """Fill `out` [B, C', T, 2H, 2W] with the four convolutions that `weight` [..., 3, 3] becomes."""
    height, width = (side // 2 for side in out.shape[3:])
    for i, rows in enumerate(halves(weight, -2)):
        for j, kernel in enumerate(halves(rows, -1)):
            out[..., i::2, j::2] = convolve(kernel)[..., i : i + height, j : j + width]
    return out
