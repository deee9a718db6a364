"""A causal convolution of many channels to a few: what waits for later frames is kept behind it, not before.

Each plane of its kernel convolves a frame by itself; of these results, a few channels each, the output is the
sum over time. They take a small part of the memory that the frames would take which they are made of.
"""

import torch
from torch import Tensor, nn

from vidlatent.models.causal import TimeState
from vidlatent.models.clips import as_clip, as_frames
from vidlatent.models.convolution import CausalConv3d, convolve_frames, due


def narrows(conv: nn.Module, x: Tensor) -> bool:
    """Whether a convolution makes of `x` so few channels that the results of all its planes are fewer still.

    In 16 bits the results would be rounded before they are added up.
    """
    return (
        isinstance(conv, CausalConv3d)
        and conv.looks_back
        and conv.conv.kernel_size[0] * conv.conv.out_channels < conv.conv.in_channels
        and x.dtype.itemsize >= 4
    )


def sum_planes(conv: CausalConv3d, x: Tensor, state: TimeState) -> Tensor:
    """Convolve a clip [B, C, T, H, W], its borders written, the frames before it not → [B, C', T, H, W]."""
    weight, bias = conv.conv.weight, due(conv, x)
    depth, frames = weight.shape[2], x.shape[2]
    planes = weight.movedim(2, 0).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    results = as_clip(convolve_frames(as_frames(x), planes, None, *conv.plane), len(x))
    known = state.extend(conv, results, depth, lead=conv.lead).unflatten(1, (depth, -1))
    out = known[:, 0, :, :frames] + (0 if bias is None else bias[:, None, None, None])
    for k in range(1, depth):
        out += known[:, k, :, k : k + frames]
    return out
