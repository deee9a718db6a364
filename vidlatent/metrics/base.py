"""What a metric is: it takes pairs of frames and gives a number per frame, and says how it is computed."""

import math
from array import array
from collections.abc import Iterable
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from vidlatent.errors import BadInput, parameter

Better = Literal["higher", "lower"]
FULL_SCALE = {torch.uint8: 255, torch.uint16: 65535}


class Metric(Protocol):
    """What every metric offers to the jobs that measure. One object measures one pair of clips.

    Frames are RGB [T, H, W, 3] as decoded, uint8, or uint16 where the source has more than 8 bits, on any
    device. A metric keeps one number per frame, and nothing else that grows with the clip.
    """

    name: str
    unit: str
    better: Better
    protocol: str  # colour, depth, window, backbone, averaging: everything that changes the number

    def update(self, reference: Tensor, distorted: Tensor) -> None:
        """Take the next frames of both clips, each [T, H, W, 3]; T may differ from call to call."""
        ...

    def per_frame(self) -> np.ndarray:
        """Float64, one value per frame; a metric of changes has its first value at the second frame."""
        ...

    def result(self) -> dict[str, float]:
        """The clip in a few numbers, of which `mean` is the main one. No frames may follow."""
        ...


class Series:
    """A metric's values in the order of frames. A NaN is refused with the number of its frame."""

    def __init__(self, name: str, first: int = 0) -> None:
        self.name = name
        self.first = first  # frame that the first value belongs to
        self._values = array("d")

    def extend(self, values: Tensor | Iterable[float]) -> None:
        """Append the values of the next frames."""
        for value in values.tolist() if isinstance(values, Tensor) else values:
            if math.isnan(value):
                raise BadInput(
                    f"{self.name} of frame {self.first + len(self)} is not a number",
                    f"look at that frame of both clips; if a network gave it, use {parameter('dtype')} fp32",
                )
            self._values.append(value)

    def __len__(self) -> int:
        return len(self._values)

    def array(self) -> np.ndarray:
        """All values so far, float64."""
        return np.array(self._values, dtype=np.float64)

    def require_array(self) -> np.ndarray:
        """All values so far, float64; raises BadInput where there are none."""
        if not len(self):
            least = "one frame" if self.first == 0 else f"{self.first + 1} frames"
            raise BadInput(f"{self.name}: needs {least} at least", "give a longer clip")
        return self.array()


def check_pair(reference: Tensor, distorted: Tensor) -> None:
    """Raise BadInput unless both are frames [T, H, W, 3] of one shape and depth on one device."""
    for side, frames in (("reference", reference), ("distorted", distorted)):
        if frames.dtype not in FULL_SCALE or frames.ndim != 4 or frames.shape[-1] != 3:
            raise BadInput(
                f"{side}: metrics compare uint8 or uint16 frames [T, H, W, 3], got {frames.dtype} "
                f"{list(frames.shape)}",
                "turn pixels of [-1, 1] into frames with engine.pixels first",
            )
    if reference.shape != distorted.shape:
        raise BadInput(
            f"frames cannot be compared: reference {_size(reference)}, distorted {_size(distorted)}"
        )
    if reference.dtype != distorted.dtype:
        raise BadInput(f"frames cannot be compared: reference {reference.dtype}, distorted {distorted.dtype}")
    if reference.device != distorted.device:
        raise BadInput(f"frames lie apart: reference on {reference.device}, distorted on {distorted.device}")


def _size(frames: Tensor) -> str:
    t, h, w, _ = frames.shape
    return f"{t} × {w}×{h}"


def unit_planes(frames: Tensor) -> Tensor:
    """Frames [T, H, W, 3] → planes float32 [T, 3, H, W] in [0, 1]."""
    return frames.permute(0, 3, 1, 2).float().div_(FULL_SCALE[frames.dtype])
