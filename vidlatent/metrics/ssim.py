"""Structural similarity (Wang et al. 2004) and its multi-scale form (Wang et al. 2003) of RGB frames."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vidlatent.errors import BadInput
from vidlatent.metrics.base import Better, Series, check_pair, unit_planes
from vidlatent.precision import true_float32

WINDOW = 11
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2  # (K·L)² with the data range L = 1
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # weights of the five scales, finest first


class Ssim:
    """SSIM of every frame: mean of the map over the valid region and the three channels."""

    name = "ssim"
    unit = ""
    better: Better = "higher"
    protocol = (
        "RGB as decoded, in [0, 1], float32; Gaussian window 11×11, σ 1.5, population covariance, K1 0.01, "
        "K2 0.03, valid region only; mean over map, channels, frames"
    )

    def __init__(self) -> None:
        self._series = Series(self.name)

    def update(self, reference: Tensor, distorted: Tensor) -> None:
        """Take the next frames, [T, H, W, 3]."""
        check_pair(reference, distorted)
        _check_size(self.name, reference, WINDOW)
        for x, y in zip(reference.split(1), distorted.split(1), strict=True):
            luminance, structure = similarity(unit_planes(x), unit_planes(y))
            self._series.extend((luminance * structure).mean(dim=(1, 2, 3), dtype=torch.float64).cpu())

    def per_frame(self) -> np.ndarray:
        """SSIM of every frame."""
        return self._series.array()

    def result(self) -> dict[str, float]:
        """`mean` over the frames, and the `worst` of them."""
        return summarise(self._series)


class MsSsim:
    """MS-SSIM of every frame: contrast-structure at five scales, luminance at the coarsest."""

    name = "ms-ssim"
    unit = ""
    better: Better = "higher"
    protocol = (
        "RGB as decoded, in [0, 1], float32; window of SSIM, 5 scales of .0448 .2856 .3001 .2363 .1333; "
        "halved by 2×2 averages (an odd last row or column is left out); negative terms count as 0; "
        "mean over channels, frames"
    )

    def __init__(self) -> None:
        self._series = Series(self.name)

    def update(self, reference: Tensor, distorted: Tensor) -> None:
        """Take the next frames, [T, H, W, 3], both sides of 176 pixels at least."""
        check_pair(reference, distorted)
        _check_size(self.name, reference, WINDOW << (len(SCALES) - 1))
        for x, y in zip(reference.split(1), distorted.split(1), strict=True):
            self._series.extend(_ms_ssim(unit_planes(x), unit_planes(y)).cpu())

    def per_frame(self) -> np.ndarray:
        """MS-SSIM of every frame."""
        return self._series.array()

    def result(self) -> dict[str, float]:
        """`mean` over the frames, and the `worst` of them."""
        return summarise(self._series)


def summarise(series: Series) -> dict[str, float]:
    """`mean` and the smallest value, `worst`, of a series of which more is better."""
    values = series.require_array()
    return {"mean": float(values.mean()), "worst": float(values.min())}


def similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Maps of luminance and of contrast-structure of planes [1, 3, H, W] in [0, 1]; SSIM is their product."""
    mean_x, mean_y, power, xy = blur(torch.cat([x, y, x * x + y * y, x * y])).split(1)
    product = mean_x * mean_y
    squares = mean_x * mean_x + mean_y * mean_y
    luminance = (2 * product + C1) / (squares + C1)
    structure = (2 * (xy - product) + C2) / (power - squares + C2)
    return luminance, structure


@true_float32()
def blur(planes: Tensor) -> Tensor:
    """Planes [N, C, H, W] → [N, C, H-10, W-10], blurred by the Gaussian window where it fits."""
    n, c, h, w = planes.shape
    window = gaussian().to(planes).expand(n * c, 1, -1)
    rows = F.conv2d(planes.reshape(1, n * c, h, w), window[..., None], groups=n * c)
    return F.conv2d(rows, window[:, :, None], groups=n * c).reshape(n, c, h - WINDOW + 1, w - WINDOW + 1)


def gaussian() -> Tensor:
    """The window along one axis, float64 [11], of sum 1."""
    offset = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    window = torch.exp(-(offset**2) / (2 * SIGMA**2))
    return window / window.sum()


def _ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Planes [1, 3, H, W] → [1] float64."""
    total = torch.ones((1, 3), dtype=torch.float64, device=x.device)
    for scale, weight in enumerate(SCALES):
        luminance, structure = similarity(x, y)
        term = luminance * structure if scale == len(SCALES) - 1 else structure
        total *= term.mean(dim=(2, 3), dtype=torch.float64).clamp(min=0) ** weight
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return total.mean(dim=1)


def _check_size(name: str, frames: Tensor, least: int) -> None:
    _, h, w, _ = frames.shape
    if min(h, w) < least:
        raise BadInput(
            f"{name}: frames of {w}×{h} are too small, both sides must have {least} pixels at least",
            "leave the metric out, or compare larger frames",
        )
