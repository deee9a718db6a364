"""Latents as a diffusion model is fed them, (z - shift) · scale, and back to raw posterior units.

`scale` and `shift` hold a value for each channel, or one for all. `axis` is the axis of the channels, counted
from the last one: -4 in [B, C, t, h, w], -3 in [t, C, h, w].
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def normalise(latents: Tensor, scale: Sequence[float], shift: Sequence[float], axis: int) -> Tensor:
    """Raw latents → (z - shift) · scale, in float32."""
    return (latents.float() - _along(axis, shift, latents)) * _along(axis, scale, latents)


def denormalise(latents: Tensor, scale: Sequence[float], shift: Sequence[float], axis: int) -> Tensor:
    """What `normalise` gave → raw latents, in float32."""
    return latents.float() / _along(axis, scale, latents) + _along(axis, shift, latents)


def _along(axis: int, values: Sequence[float], latents: Tensor) -> Tensor:
    """Values of channels, shaped such that they meet the channels of `latents`."""
    return torch.tensor(values, dtype=torch.float32, device=latents.device).view(-1, *(1,) * (-axis - 1))
