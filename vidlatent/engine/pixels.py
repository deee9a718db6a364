"""Pixels ↔ floats, the only place: integers of 8 or 16 bits outside, [-1, 1] inside."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vidlatent.errors import BadInput, parameter
from vidlatent.grid import Grid

FULL_SCALE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


def to_model(frames: Sequence[np.ndarray], grid: Grid, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Frames [H, W, 3] uint8 or uint16 → video [1, 3, T, H', W'] in [-1, 1], edges repeated to the grid.

    Frames [B, H, W, 3], of B clips side by side, give [B, 3, T, H', W'].
    """
    stack = np.stack(frames, axis=-4)  # (B) T H W 3: channels-last in memory, and stays so
    if stack.dtype not in FULL_SCALE:
        raise BadInput(f"frames are {stack.dtype}", "give uint8 or uint16")
    video = torch.from_numpy(stack).to(device).movedim(-1, -4)
    video = pad_to_grid(video if video.dim() == 5 else video[None], grid)  # while pixels are small still
    return to_floats(video).to(dtype)


def to_floats(pixels: Tensor) -> Tensor:
    """Pixels of any shape, uint8 or uint16 → float32 in [-1, 1], laid out as they were."""
    return pixels.to(torch.float32).mul_(2 / torch.iinfo(pixels.dtype).max).sub_(1)


def pad_to_grid(video: Tensor, grid: Grid) -> Tensor:
    """[B, C, T, H, W] with bottom rows and right columns repeated until the sides fit the grid."""
    down, right = (grid.missing_pixels(side) for side in video.shape[-2:])
    if not down and not right:
        return video
    batch, channels, frames, height, width = video.shape
    padded = video.new_empty(batch, frames, height + down, width + right, channels).movedim(-1, 1)
    padded[..., :height, :width] = video
    padded[..., :height, width:] = video[..., -1:]
    padded[..., height:, :] = padded[..., height - 1 : height, :]
    return padded


def to_frames(video: Tensor, height: int, width: int, dtype: np.dtype | type = np.uint8) -> np.ndarray:
    """Video [1, 3, T, H', W'], clamped to [-1, 1] → frames [T, height, width, 3], rounded half up."""
    full = FULL_SCALE[np.dtype(dtype)]
    cropped = video[0, :, :, :height, :width].permute(1, 2, 3, 0).float()
    levels = cropped.clamp(-1, 1).add_(1).mul_(full / 2).add_(0.5)
    if levels.sum().isnan():  # nothing else than a NaN makes it one: the rest lies between 0 and `full`
        raise BadInput(
            "decoding gave NaN",
            f"try {parameter('dtype')} fp32; if it stays, the latents or the weights are broken",
        )
    kind = torch.uint8 if full == 255 else torch.int32  # torch has no arithmetic on uint16
    return levels.to(kind).contiguous().cpu().numpy().astype(dtype, copy=False)  # rounds towards zero
