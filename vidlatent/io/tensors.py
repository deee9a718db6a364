"""Tensors of latents as the bytes that files hold."""

import numpy as np
import torch
from torch import Tensor

from vidlatent.dtypes import DTYPES

TORCH_DTYPES = {dtype.stored: getattr(torch, dtype.torch) for dtype in DTYPES.values()}
NUMPY_DTYPES = {  # of tensors beside latents; files are little-endian
    name: np.dtype(code)
    for name, code in (
        *(("U8", "u1"), ("I8", "i1"), ("U16", "<u2"), ("I16", "<i2"), ("U32", "<u4"), ("I32", "<i4")),
        *(("I64", "<i8"), ("F32", "<f4")),
    )
}
STORED_NAMES = {dtype: name for name, dtype in NUMPY_DTYPES.items()}


def bytes_of(latents: Tensor) -> memoryview:
    """The memory of a contiguous CPU tensor, without a copy."""
    return latents.view(-1).view(torch.uint8).numpy().data  # in a row first: sides of 1 may have any stride


def first_not_finite(latents: Tensor) -> int | None:
    """Index of the first latent frame of [t, C, h, w] that holds NaN or infinity; None where none does."""
    if not latents.numel() or all(torch.isfinite(torch.stack(torch.aminmax(latents)))):  # one pass
        return None
    return int((~torch.isfinite(latents)).flatten(1).any(dim=1).nonzero()[0])
