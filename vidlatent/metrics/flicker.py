"""Temporal flicker: change from frame to frame that the source does not have."""

import numpy as np
import torch
from torch import Tensor

from vidlatent.metrics.base import FULL_SCALE, Better, Series, check_pair


class Flicker:
    """Mean absolute difference of the two clips' frame-to-frame differences, in 8-bit levels.

    Value t, from the second frame on, is mean |(D[t] - D[t-1]) - (R[t] - R[t-1])|. A constant error does
    not flicker; an error that comes and goes does. Needs no optical flow, so it means the same everywhere.
    """

    name = "flicker"
    unit = "levels"
    better: Better = "lower"
    protocol = (
        "RGB as decoded; mean over pixels and channels of |(D[t]-D[t-1]) - (R[t]-R[t-1])| in levels of 255, "
        "no warping; mean over the frames from the second on"
    )

    def __init__(self) -> None:
        self._series = Series(self.name, first=1)
        self._last: Tensor | None = None

    def update(self, reference: Tensor, distorted: Tensor) -> None:
        """Take the next frames, [T, H, W, 3]."""
        check_pair(reference, distorted)
        unit = FULL_SCALE[reference.dtype] // 255
        for r, d in zip(reference, distorted, strict=True):
            error = d.int() - r.int()
            if self._last is not None:
                change = (error - self._last).abs_().sum(dtype=torch.int64).item()
                self._series.extend([change / error.numel() / unit])
            self._last = error

    def per_frame(self) -> np.ndarray:
        """Levels, from the second frame on."""
        return self._series.array()

    def result(self) -> dict[str, float]:
        """`mean` over the frames, and the `worst` of them."""
        values = self._series.require_array()
        return {"mean": float(values.mean()), "worst": float(values.max())}
