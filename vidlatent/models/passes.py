"""What is done to a clip on a GPU in one pass over it, where several would each cost as much as a layer."""

from functools import cache
from types import ModuleType

import torch
from torch import Tensor

_FULL = 64  # channels come in so many at once where a GPU multiplies 16-bit numbers at its full rate


def kernels_for(*clips: Tensor) -> ModuleType | None:
    """The kernels that take these clips [B, C, T, H, W], their channels side by side; None: there are none.

    That is so on a CPU, and where PyTorch came without Triton. Then the plain forms are computed.
    """
    if not all(leaves_bias(clip) and clip.stride(1) == 1 and clip.numel() for clip in clips):
        return None
    return _kernels()


def leaves_bias(x: Tensor) -> bool:
    """Whether a convolution of `x` leaves its bias to what is done to its result next.

    A GPU adds it in a pass of its own, which is saved where the next pass can add it.
    """
    return x.is_cuda and x.dtype.itemsize <= 4 and _kernels() is not None


def add(h: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    """Add to a clip `h` [B, C, T, H, W], in place, another one, and the bias [C] that it still lacks."""
    if bias is None:
        return h.add_(x)
    kernels = kernels_for(h, x)
    if kernels is None:
        return h.add_(x).add_(bias[:, None, None, None])
    kernels.add(h, x, bias)
    return h


def fed_channels(x: Tensor, on_gpu: bool) -> int:
    """How many channels a convolution of `x` [B, C, T, H, W] is best fed with, those beyond C being zeros.

    Measured on an H100 in bf16: from 96 channels to 96 takes 1.7 times as long as from 128 to 96.
    """
    channels = x.shape[1]
    if not on_gpu or x.dtype.itemsize != 2 or channels <= _FULL:
        return channels
    return -(-channels // _FULL) * _FULL


@cache
def _kernels() -> ModuleType | None:
    """The module of kernels; None where PyTorch came without Triton."""
    if not torch.cuda.is_available():
        return None
    try:
        from vidlatent.models import kernels
    except ImportError:
        return None
    return kernels
