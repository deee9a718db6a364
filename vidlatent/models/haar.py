"""Haar wavelets of clips and frames, as WF-VAE takes them apart and puts them together again."""

import torch
from torch import Tensor, nn

from vidlatent.models.causal import TimeState

HAAR3 = 0.3536  # the authors' constant, not quite 1/√8; a round trip gains 8 · 0.3536² = 1.00026
HAAR2 = 0.5


class Haar3d(nn.Module):
    """Wavelet bands of 2×2×2 voxels, the clip preceded by a copy of its first frame."""

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → [B, 8C, (T+1)/2, H/2, W/2]: the plain band, then w, h, hw, t, tw, th, thw."""
        x = state.extend(self, x, kernel=2, stride=2) if x.shape[2] else x
        for axis in (-1, -2, -3):
            x = _split(x, axis)
        return (x * HAAR3).flatten(1, 4)


class InverseHaar3d(nn.Module):
    """The way back; the frame before the first is dropped."""

    def forward(self, bands: Tensor, state: TimeState) -> Tensor:
        """[B, 8C, t, h, w] → [B, C, 2t-1 (2t later in the clip), 2h, 2w]."""
        x = (bands * HAAR3).unflatten(1, (2, 2, 2, -1))
        for axis in (-3, -2, -1):
            x = _join(x, axis)
        return x[:, :, 1:] if x.shape[2] and state.begins(self) else x


def haar2d(x: Tensor) -> Tensor:
    """Bands of 2×2 pixels: [B, C, T, H, W] → [B, 4C, T, H/2, W/2]: the plain band, then h, w, hw."""
    return (_split(_split(x, -2), -1) * HAAR2).flatten(1, 3)


def inverse_haar2d(bands: Tensor) -> Tensor:
    """[B, 4C, T, h, w] → [B, C, T, 2h, 2w]."""
    return _join(_join((bands * HAAR2).unflatten(1, (2, 2, -1)), -1), -2)


def _split(x: Tensor, axis: int) -> Tensor:
    """Sums and differences of neighbours along `axis`, on a new axis 1; an odd one out is dropped."""
    pairs = x.shape[axis] // 2
    a, b = x.narrow(axis, 0, 2 * pairs).unflatten(axis, (pairs, 2)).unbind(axis)
    return torch.stack([a + b, a - b], dim=1)


def _join(x: Tensor, axis: int) -> Tensor:
    """Undo `_split`: sums and differences on axis 1 → neighbours along `axis`."""
    a, b = x.unbind(1)
    return torch.stack([a + b, a - b], dim=a.ndim + axis + 1).flatten(axis - 1, axis)
