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
    if frames[0].dtype not in FULL_SCALE:
        raise BadInput(f"frames are {frames[0].dtype}", "give uint8 or uint16")
    shape = (*frames[0].shape[:-3], len(frames), *frames[0].shape[-3:])  # (B) T H W 3: and stays so in memory
    kind = torch.from_numpy(frames[0][:0]).dtype
    # pinned, it is copied while the device is still busy with what it was given before
    pictures = torch.empty(shape, dtype=kind, pin_memory=device.type == "cuda")
    np.stack(frames, axis=-4, out=pictures.numpy())
    video = pictures.to(device, non_blocking=True).movedim(-1, -4)
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
    return Leaving(video, height, width, dtype).frames()


def works_apart(device: torch.device) -> bool:
    """Whether a device goes on with what it was given while the host does something else."""
    return device.type == "cuda"


class Leaving:
    """Frames that leave a device: what `to_frames` gives, which the host need not wait for at once.

    Rounding and copying are queued behind the network, frame by frame, which takes no more memory there than
    one frame's floats. Whether there was a NaN is carried along, so that nothing has to be asked before.
    """

    def __init__(self, video: Tensor, height: int, width: int, dtype: np.dtype | type = np.uint8) -> None:
        full, apart = FULL_SCALE[np.dtype(dtype)], video.device.type == "cuda"
        kind = torch.uint8 if full == 255 else torch.int32  # torch has no arithmetic on uint16
        self._dtype = dtype
        self._pixels = torch.empty(video.shape[2], height, width, 3, dtype=kind, pin_memory=apart)
        self._sums = torch.zeros(video.shape[2], pin_memory=apart)
        for frame, place, total in zip(video[0].unbind(1), self._pixels, self._sums, strict=True):
            levels = frame[:, :height, :width].permute(1, 2, 0).float().clamp(-1, 1)
            levels = levels.add_(1).mul_(full / 2).add_(0.5)
            total.copy_(levels.sum(), non_blocking=True)
            place.copy_(levels.to(kind), non_blocking=True)  # rounds towards zero
        self._copied = torch.cuda.Event() if apart else None
        if self._copied is not None:
            self._copied.record(torch.cuda.current_stream(video.device))

    def frames(self) -> np.ndarray:
        """The frames [T, height, width, 3], once they are here; raises BadInput where one holds a NaN."""
        if self._copied is not None:
            self._copied.synchronize()
        if self._sums.isnan().any():  # only a NaN makes it one: all else lies between 0 and full scale
            raise BadInput(
                "decoding gave NaN",
                f"try {parameter('dtype')} fp32; if it stays, the latents or the weights are broken",
            )
        return self._pixels.numpy().astype(self._dtype, copy=False)
