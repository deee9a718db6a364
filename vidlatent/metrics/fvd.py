"""Fréchet video distance (Unterthiner et al. 2018); the user must provide the I3D network.

FVD compares two sets of clips, not two frames. Its value depends on the number of windows, so that number
is part of the result.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vidlatent.errors import BadInput, BadWeights
from vidlatent.files import sha256_file
from vidlatent.metrics.base import Better, check_pair, unit_planes
from vidlatent.precision import true_float32

WINDOW = 16  # frames the network sees at once
SIDE = 224


class Fvd:
    """FVD between the windows of the reference and those of the distorted clips, over any number of clips.

    `i3d` is the TorchScript file that the papers use (`i3d_torchscript.pt`): it is called with pixels
    [N, 3, 16, 224, 224] in [-1, 1] and `rescale=False, resize=False, return_features=True`.
    """

    name = "fvd"
    unit = ""
    better: Better = "lower"

    def __init__(self, i3d: Path) -> None:
        self._network = _load(i3d)
        self._sides = (Moments(), Moments())
        self._waiting: list[Tensor] = []
        self.protocol = (
            f"I3D features, TorchScript sha256 {sha256_file(i3d)[:12]}; windows of {WINDOW} frames one after "
            f"the other, a shorter tail left out; RGB as decoded, stretched to {SIDE}×{SIDE} (bilinear); "
            "the number of windows stands beside the result"
        )

    def update(self, reference: Tensor, distorted: Tensor) -> None:
        """Take the next frames of one clip, [T, H, W, 3]."""
        check_pair(reference, distorted)
        for r, d in zip(reference, distorted, strict=True):
            self._waiting.append(torch.stack([_shrink(r), _shrink(d)]))
            if len(self._waiting) == WINDOW:
                self._add_windows(torch.stack(self._waiting, dim=2))
                self._waiting.clear()

    def end_clip(self) -> None:
        """Call it between two clips, so that no window holds frames of both."""
        self._waiting.clear()

    def per_frame(self) -> np.ndarray:
        """Nothing: FVD has no value per frame."""
        return np.zeros(0)

    def result(self) -> dict[str, float]:
        """The distance as `mean`, and the number of `windows` of each side."""
        reference, distorted = self._sides
        if reference.count < 2:
            raise BadInput(
                f"fvd: needs 2 windows of {WINDOW} frames at least, saw {reference.count}",
                "give longer or more clips",
            )
        return {"mean": frechet_distance(reference, distorted), "windows": float(reference.count)}

    @true_float32()
    @torch.inference_mode()
    def _add_windows(self, windows: Tensor) -> None:
        """Add the features of windows [2, 3, 16, 224, 224], one of each side, to the moments."""
        self._network.to(windows.device)
        features = self._network(windows, rescale=False, resize=False, return_features=True)
        for side, feature in zip(self._sides, features.double().cpu().numpy(), strict=True):
            side.add(feature.ravel())


@dataclass
class Moments:
    """Count, sum and sum of outer products of feature vectors; takes no more memory for more vectors."""

    count: int = 0
    total: np.ndarray = field(default_factory=lambda: np.zeros(0))
    outer: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def add(self, feature: np.ndarray) -> None:
        """Add one vector; raises BadInput unless it is finite."""
        if not np.isfinite(feature).all():
            raise BadInput(f"fvd: the network's features of window {self.count} are not numbers")
        if not self.count:
            self.total, self.outer = np.zeros_like(feature), np.zeros((len(feature),) * 2)
        self.count += 1
        self.total += feature
        self.outer += np.outer(feature, feature)

    @property
    def mean(self) -> np.ndarray:
        """Mean vector."""
        return self.total / self.count

    @property
    def covariance(self) -> np.ndarray:
        """Sample covariance."""
        return (self.outer - self.count * np.outer(self.mean, self.mean)) / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """|mean difference|² + tr(A + B - 2 (A½ B A½)½) of two Gaussians with these moments."""
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    product = np.clip(np.linalg.eigvalsh(root @ b.covariance @ root), 0, None)
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(product).sum()
    return float(np.square(a.mean - b.mean).sum() + spread)


def _shrink(frame: Tensor) -> Tensor:
    """Frame [H, W, 3] → pixels [3, 224, 224] in [-1, 1]."""
    planes = unit_planes(frame[None])
    return F.interpolate(planes, size=(SIDE, SIDE), mode="bilinear", align_corners=False)[0] * 2 - 1


def _load(path: Path) -> torch.jit.ScriptModule:
    try:
        return torch.jit.load(path, map_location="cpu").eval()
    except (RuntimeError, ValueError, OSError) as e:
        raise BadWeights(
            f"{path}: not a TorchScript network: {str(e).splitlines()[0]}",
            "FVD wants the file i3d_torchscript.pt",
        ) from e
