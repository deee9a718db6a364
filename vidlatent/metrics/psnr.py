"""Peak signal-to-noise ratio of RGB frames."""

import math

import numpy as np
import torch
from torch import Tensor

from vidlatent.metrics.base import FULL_SCALE, Better, Series, check_pair


class Psnr:
    """PSNR of every frame, and of the whole clip from its mean squared error.

    `mean` averages the decibels of the frames that differ, and is `ceiling` where no frame differs;
    `identical` says how many frames do not differ. `pooled` is the PSNR of the mean squared error of all
    frames. Squared differences are integers and their sums exact, so every device gives the same digits.
    """

    name = "psnr"
    unit = "dB"
    better: Better = "higher"

    def __init__(self, ceiling: float = math.inf) -> None:
        self.ceiling = ceiling  # the value of a frame that equals its reference
        self._errors = Series(self.name)
        identical = (
            "inf, left out of the mean" if math.isinf(ceiling) else f"{ceiling:g} dB, like any more alike"
        )
        self.protocol = (
            "RGB as decoded (8-bit: peak 255), MSE over all pixels and channels of a frame; "
            f"mean: average of the frames' dB; identical frames: {identical}; pooled: dB of the mean MSE"
        )

    def update(self, reference: Tensor, distorted: Tensor) -> None:
        """Take the next frames, [T, H, W, 3]."""
        check_pair(reference, distorted)
        exact = torch.float32 if reference.dtype == torch.uint8 else torch.float64  # for squared integers
        square = (distorted.to(exact) - reference.to(exact)).square_()
        error = square.mean(dim=(1, 2, 3), dtype=torch.float64) / FULL_SCALE[reference.dtype] ** 2
        self._errors.extend(error.cpu())

    def per_frame(self) -> np.ndarray:
        """Decibels of every frame."""
        return self._to_decibels(self._errors.array())

    def result(self) -> dict[str, float]:
        """`mean`, `worst` and `pooled` in dB, and how many frames are `identical`."""
        errors = self._errors.require_array()
        values = self._to_decibels(errors)
        differ = values[np.isfinite(values)]
        return {
            "mean": float(differ.mean()) if len(differ) else self.ceiling,
            "worst": float(values.min()),
            "pooled": float(self._to_decibels(errors.mean())),
            "identical": float(np.count_nonzero(errors == 0)),
        }

    def _to_decibels(self, error: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.minimum(-10 * np.log10(error), self.ceiling)
