"""Looks at what is given to a model before anything is computed: clips, latents, sizes to cut back to."""

import torch
from torch import Tensor

from vidlatent.errors import BadInput, UsageError
from vidlatent.grid import Grid
from vidlatent.models.base import Posterior

# Pixels that are not clamped, of a decoder or a sharp filter, leave [-1, 1] by less than this; bytes that
# were taken for floats leave it by far.
FARTHEST = 4.0
Size = tuple[int, int, int]  # frames, height, width


def check_video(video: Tensor) -> None:
    """Raise BadInput unless this is a clip [B, 3, T, H, W] of finite floats around [-1, 1]."""
    demand_tensor(video, "video")
    if video.dim() != 5 or video.shape[1] != 3 or 0 in video.shape or not video.is_floating_point():
        raise BadInput(
            f"video is {video.dtype} {list(video.shape)}, expected floats [B, 3, T, H, W]",
            "scale pixels to [-1, 1]; one image is T = 1",
        )
    low, high = (float(value) for value in video.detach().aminmax())  # NaN where there is any
    if not -FARTHEST <= low <= high <= FARTHEST:
        finite = torch.isfinite(torch.tensor([low, high])).all()
        found = f"reaches from {low:g} to {high:g}" if finite else "holds NaN or infinity"
        raise BadInput(f"video {found}, expected pixels in [-1, 1]", "bytes become that by x / 127.5 - 1")


def check_latents(latents: Tensor, channels: int) -> None:
    """Raise BadInput unless these are latents [B, C, t, h, w] of finite floats."""
    demand_tensor(latents, "latents")
    good = latents.dim() == 5 and latents.is_floating_point() and 0 not in latents.shape
    if not good or latents.shape[1] != channels:
        raise BadInput(
            f"latents are {latents.dtype} {list(latents.shape)}, expected floats [B, {channels}, t, h, w]"
        )
    if not torch.isfinite(latents).all():
        raise BadInput("latents hold NaN or infinity", "they were broken before they came here")


def demand_tensor(value: object, name: str) -> None:
    """Raise BadInput unless this is a tensor."""
    if not isinstance(value, Tensor):
        raise BadInput(
            f"{name}: a {type(value).__module__}.{type(value).__name__}, expected a torch.Tensor",
            "torch.from_numpy makes one of a NumPy array",
        )


def cut_back(video: Tensor, like: Posterior | Tensor | Size, grid: Grid) -> Tensor:
    """A decoded clip [B, 3, T', H', W'] without what encoding had added to fit the grid: [B, 3, T, H, W].

    `like` says the size: the posterior of the clip, the clip itself, or (T, H, W).
    """
    size = size_of(like)
    added = [whole - own for whole, own in zip(video.shape[2:], size, strict=True)]
    most = (max(grid.step, grid.least), grid.space, grid.space)
    if not all(0 <= extra < limit for extra, limit in zip(added, most, strict=True)):
        raise UsageError(
            f"like: a clip of {_said(size)} does not come of latents that decode to {_said(video.shape[2:])}",
            "give the posterior that encode made of the clip, or its frames, height and width",
        )
    frames, height, width = size
    return video[:, :, :frames, :height, :width]


def size_of(like: Posterior | Tensor | Size) -> Size:
    """Frames, height and width that `like` stands for."""
    size = (
        like.size if isinstance(like, Posterior) else tuple(like.shape if isinstance(like, Tensor) else like)
    )
    if size is None:
        raise UsageError(
            "like: this posterior does not know the size of its clip",
            "give (frames, height, width)",
        )
    if len(size) not in (3, 5):
        raise UsageError(f"like {size}: not the size of a clip", "give (frames, height, width)")
    return size[-3:]


def _said(size: tuple[int, ...]) -> str:
    frames, height, width = size
    return f"{frames} frames of {width}x{height}"
