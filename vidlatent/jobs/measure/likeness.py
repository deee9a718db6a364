"""How alike two sets of latents are, and two sets of pictures; and which pictures latents should give."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidlatent.engine.pixels import to_frames
from vidlatent.metrics.psnr import Psnr
from vidlatent.metrics.ssim import WINDOW, Ssim

MAPS = ("first", "slice", "average", "random")
SAME_DB = 100.0  # PSNR of pictures that are identical


@dataclass(frozen=True)
class Channel:
    """One latent channel in both models: its means, its deviations, and the correlation."""

    video_mean: float
    video_std: float
    image_mean: float
    image_std: float
    pearson: float


@dataclass(frozen=True)
class Likeness:
    """Latents of a video model against those of an image model, from the same pictures.

    `rel_l2` is the distance over the length of the image latents. `rel_l2_fitted` is the same, once each
    channel of the video latents has the scale and shift that suit it best.
    """

    pearson: float  # mean over the channels
    rel_l2: float
    rel_l2_fitted: float
    channels: tuple[Channel, ...]

    @classmethod
    def of(cls, video: Tensor, image: Tensor) -> "Likeness":
        """From latents [1, C, t, h, w] of both."""
        v, i = (z[0].flatten(1).double() for z in (video, image))
        v0, i0 = (z - z.mean(1, keepdim=True) for z in (v, i))
        power, cross = v0.square().mean(1), (v0 * i0).mean(1)
        gain = torch.where(power > 0, cross / power, 0)
        fitted = gain[:, None] * v0 + i.mean(1, keepdim=True)
        deviations = [z.std(1, correction=0) for z in (v, i)]
        product = deviations[0] * deviations[1]
        pearson = torch.where(product > 0, cross / product, 0)
        columns = (v.mean(1), deviations[0], i.mean(1), deviations[1], pearson)
        channels = tuple(Channel(*values) for values in zip(*(c.tolist() for c in columns), strict=True))
        return cls(float(pearson.mean()), _measure_distance(v, i), _measure_distance(fitted, i), channels)


@dataclass(frozen=True)
class PictureScore:
    """Pictures against what they should be: means, and the PSNR of each; no SSIM where they are small."""

    psnr: float  # dB
    ssim: float | None
    frames: tuple[float, ...]  # dB

    @classmethod
    def of(cls, pictures: Tensor, wanted: Tensor) -> "PictureScore":
        """From videos [1, 3, T, H, W] in [-1, 1], compared as the 8-bit frames that a person would see."""
        height, width = wanted.shape[-2:]
        frames = [torch.from_numpy(to_frames(v, height, width)) for v in (wanted, pictures)]
        psnr, ssim = Psnr(ceiling=SAME_DB), Ssim()
        psnr.update(*frames)
        large = min(height, width) >= WINDOW
        if large:
            ssim.update(*frames)
        each = psnr.per_frame()
        return cls(float(each.mean()), ssim.result()["mean"] if large else None, tuple(each.tolist()))


def make_stand_ins(video: Tensor, name: str, time: int, seed: int = 0) -> Tensor:
    """The picture each latent should give: [1, 3, T, H, W] → [1, 3, t, H, W] (one frame for "first")."""
    head, rest = video[:, :, :1], video[:, :, 1:]
    if name == "first" or not rest.shape[2]:
        return head
    groups = rest.unflatten(2, (-1, time))  # [1, 3, t-1, time, H, W]
    if name == "slice":
        chosen = groups[:, :, :, -1]
    elif name == "average":
        chosen = groups.mean(3)
    else:
        drawn = np.random.default_rng(seed).integers(0, time, groups.shape[2])
        chosen = torch.stack([groups[:, :, k, j] for k, j in enumerate(drawn.tolist())], dim=2)
    return torch.cat([head, chosen], dim=2)


def pick_most_similar(video: Tensor, pictures: Tensor, time: int) -> Tensor:
    """Of each group of frames the one nearest to the picture that was decoded for it: [1, 3, t, H, W]."""
    chosen = [video[:, :, :1]]
    for k in range(1, pictures.shape[2]):
        group = video[:, :, 1 + (k - 1) * time : 1 + k * time]
        errors = (group - pictures[:, :, k : k + 1]).square().mean((0, 1, 3, 4))
        nearest = int(errors.argmin())
        chosen.append(group[:, :, nearest : nearest + 1])
    return torch.cat(chosen, dim=2)


def _measure_distance(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())
