"""Tensors of latents as the bytes that files hold."""

import torch
from torch import Tensor

from vidlatent.dtypes import DTYPES

TORCH_DTYPES = {dtype.stored: getattr(torch, dtype.torch) for dtype in DTYPES.values()}


def bytes_of(latents: Tensor) -> memoryview:
    """The memory of a contiguous CPU tensor, without a copy."""
    return latents.view(torch.uint8).numpy().reshape(-1).data


def first_not_finite(latents: Tensor) -> int | None:
    """Index of the first latent frame of [t, C, h, w] that holds NaN or infinity; None where none does."""
    if not latents.numel() or all(torch.isfinite(torch.stack(torch.aminmax(latents)))):  # one pass
        return None
    return int((~torch.isfinite(latents)).flatten(1).any(dim=1).nonzero()[0])
