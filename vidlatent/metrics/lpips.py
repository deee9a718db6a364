"""LPIPS v0.1 (Zhang et al. 2018): distance of two images in the features of a network for photographs.

The network is written here, the weights are the authors'. Those for AlexNet come with the package, those for
VGG16 from a file that the user names. Keys are torchvision's `features.N.weight|bias`, and `lin0` … `lin4`
for the learned heads.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor
from torch.nn import functional as F

from vidlatent.errors import BadInput, BadWeights
from vidlatent.files import asset, sha256_file
from vidlatent.metrics.base import Better, Series, check_pair, unit_planes
from vidlatent.precision import true_float32

SHIFT = (-0.030, -0.088, -0.188)  # the authors' input scaling, for pixels in [-1, 1]
SCALE = (0.458, 0.448, 0.450)
EPSILON = 1e-10
_BATCH_PIXELS = 1 << 21  # pixels of both clips through the network at once: bounds its activations


@dataclass(frozen=True)
class ConvLayer:
    """One convolution with its ReLU: number in torchvision's `features`, stride, padding, max-pool before."""

    index: int
    stride: int = 1
    padding: int = 1
    pool: int = 0
    tap: bool = True  # whether LPIPS compares its output


@dataclass(frozen=True)
class Backbone:
    """A convolutional network as a table of layers, and the smallest side of pictures it can take."""

    name: str
    convs: tuple[ConvLayer, ...]
    least: int


ALEX = Backbone(
    "alex",
    (ConvLayer(0, 4, 2), ConvLayer(3, 1, 2, pool=3), ConvLayer(6, pool=3), ConvLayer(8), ConvLayer(10)),
    least=31,
)
VGG = Backbone(
    "vgg",
    (
        *(ConvLayer(0, tap=False), ConvLayer(2)),
        *(ConvLayer(5, pool=2, tap=False), ConvLayer(7)),
        *(ConvLayer(10, pool=2, tap=False), ConvLayer(12, tap=False), ConvLayer(14)),
        *(ConvLayer(17, pool=2, tap=False), ConvLayer(19, tap=False), ConvLayer(21)),
        *(ConvLayer(24, pool=2, tap=False), ConvLayer(26, tap=False), ConvLayer(28)),
    ),
    least=16,
)


class Lpips:
    """LPIPS distance of every frame: 0 for equal pictures, about 1 for unrelated ones.

    With `spatial` the distance is the mean of the full-size map, as some papers report it, instead of the
    mean of the means of the five layers.
    """

    unit = ""
    better: Better = "lower"

    def __init__(self, backbone: Backbone = ALEX, weights: Path | None = None, spatial: bool = False) -> None:
        self.name = "lpips" if backbone is ALEX else f"lpips-{backbone.name}"
        self.backbone = backbone
        self.spatial = spatial
        self.source = weights or asset("lpips_alex.npz")
        self._weights = load_weights(self.source, backbone)
        self._series = Series(self.name)
        averaging = "mean of the full-size map" if spatial else "mean of the layers' spatial means"
        self.protocol = (
            f"LPIPS v0.1, {backbone.name}, learned heads, weights sha256 {sha256_file(self.source)[:12]}; "
            f"RGB as decoded, in [-1, 1], float32, whole frame; {averaging}; mean over frames"
        )

    def update(self, reference: Tensor, distorted: Tensor) -> None:
        """Take the next frames, [T, H, W, 3]."""
        check_pair(reference, distorted)
        _, h, w, _ = reference.shape
        if min(h, w) < self.backbone.least:
            raise BadInput(
                f"{self.name}: frames of {w}×{h} are too small: sides need {self.backbone.least} pixels",
                "leave the metric out, or compare larger frames",
            )
        frames = max(1, _BATCH_PIXELS // (2 * h * w))
        for x, y in zip(reference.split(frames), distorted.split(frames), strict=True):
            self._series.extend(self._distance(x, y).cpu())

    def per_frame(self) -> np.ndarray:
        """LPIPS of every frame."""
        return self._series.array()

    def result(self) -> dict[str, float]:
        """`mean` over the frames, and the `worst` of them."""
        values = self._series.require_array()
        return {"mean": float(values.mean()), "worst": float(values.max())}

    @true_float32()
    @torch.inference_mode()
    def _distance(self, reference: Tensor, distorted: Tensor) -> Tensor:
        """Frames [T, H, W, 3] → [T]."""
        if next(iter(self._weights.values())).device != reference.device:
            self._weights = {key: value.to(reference.device) for key, value in self._weights.items()}
        pixels = unit_planes(torch.cat([reference, distorted])) * 2 - 1
        shift, scale = (pixels.new_tensor(v).view(3, 1, 1) for v in (SHIFT, SCALE))
        total = torch.zeros(len(reference), dtype=torch.float64, device=pixels.device)
        for layer, x in enumerate(run_backbone(self.backbone, self._weights, (pixels - shift) / scale)):
            unit = x / (x.square().sum(dim=1, keepdim=True).sqrt() + EPSILON)
            a, b = unit.chunk(2)
            seen = torch.einsum("tchw,c->thw", (a - b).square(), self._weights[f"lin{layer}"])
            if self.spatial:
                seen = F.interpolate(
                    seen[:, None], size=pixels.shape[2:], mode="bilinear", align_corners=False
                )
            total += seen.flatten(1).mean(dim=1, dtype=torch.float64)
        return total


def run_backbone(backbone: Backbone, weights: Mapping[str, Tensor], x: Tensor) -> Iterator[Tensor]:
    """Scaled pixels [N, 3, H, W] → the activations [N, C, h, w] that LPIPS compares, layer by layer."""
    for conv in backbone.convs:
        if conv.pool:
            x = F.max_pool2d(x, conv.pool, 2)
        weight, bias = weights[f"features.{conv.index}.weight"], weights[f"features.{conv.index}.bias"]
        x = F.relu(F.conv2d(x, weight, bias, conv.stride, conv.padding))
        if conv.tap:
            yield x


def load_weights(path: Path, backbone: Backbone) -> dict[str, Tensor]:
    """Load the tensors of `backbone`, float32, from an .npz or .safetensors file with nothing else in it."""
    arrays = _read_arrays(path)
    layers = [f"features.{conv.index}.{part}" for conv in backbone.convs for part in ("weight", "bias")]
    wanted = {*layers, *(f"lin{i}" for i in range(sum(conv.tap for conv in backbone.convs)))}
    if set(arrays) != wanted:
        odd = sorted(wanted ^ set(arrays))
        fault = "missing" if odd[0] in wanted else "unknown"
        raise BadWeights(
            f"{path}: not the LPIPS weights of {backbone.name}: {odd[0]} is {fault}",
            "keys are torchvision's features.N.weight and features.N.bias, and lin0 to lin4",
        )
    for key, value in arrays.items():
        if not np.isfinite(value).all():
            raise BadWeights(f"{path}: {key} holds NaN or Inf", "fetch the file again")
    return {key: torch.from_numpy(value.astype(np.float32)) for key, value in arrays.items()}


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, SafetensorError) as e:
        raise BadWeights(
            f"{path}: cannot be read as weights: {e}", "give an .npz or .safetensors file"
        ) from e
