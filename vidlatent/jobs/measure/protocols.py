"""Published evaluations, as far as their papers and scripts tell: which pixels are compared, and how.

No protocol here repeats the authors' last step, to score files that a lossy codec had written: frames are
compared as they were decoded.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from vidlatent.errors import BadInput, UsageError, parameter
from vidlatent.metrics.base import Metric
from vidlatent.metrics.lpips import Lpips
from vidlatent.metrics.psnr import Psnr
from vidlatent.metrics.table import make_metrics


@dataclass(frozen=True)
class Protocol:
    """How a paper prepares clips, treats latents and pixels, and averages; the default is ours."""

    name: str = "vidlatent"
    about: str = "whole clips, every frame, posterior mode, rounding to the nearest level"
    side: int | None = None  # short side scaled to it, then the centre square of it
    frames: int | None = None  # exactly so many, from the first
    stride: int = 1  # every so many frames
    sample: bool = False  # draw from the posterior instead of its mode
    truncate: bool = False  # decoded floats are cut to integers, not rounded
    options: Mapping[str, Mapping] = field(default_factory=dict)  # of metrics, where they differ

    def clip(self, frames: Iterator[np.ndarray], name: str) -> Iterator[np.ndarray]:
        """The frames [H, W, 3] that the protocol looks at; raises BadInput where a clip has too few."""
        count = 0
        for frame in islice(frames, 0, self.frames and self.frames * self.stride, self.stride):
            count += 1
            yield self._prepare(frame)
        if self.frames and count < self.frames:
            raise BadInput(
                f"{name}: gives {count} frames at every {self.stride}, {self.name} takes {self.frames}",
                f"leave the clip out, or {parameter('protocol')}",
            )

    def metrics(self, names: list[str], files: Mapping[str, Path]) -> list[Metric]:
        """Fresh metrics, with the definitions of the protocol."""
        made = make_metrics(names, files)
        return [self._redefine(metric) for metric in made]

    def _redefine(self, metric: Metric) -> Metric:
        own = self.options.get(metric.name)
        return metric if own is None else {"psnr": Psnr, "lpips": Lpips}[metric.name](**own)

    def _prepare(self, frame: np.ndarray) -> np.ndarray:
        """Scale the short side bilinearly without antialiasing; take the centre square; cut to integers."""
        if self.side is None:
            return frame
        height, width, _ = frame.shape
        scale = self.side / min(height, width)
        size = (max(self.side, int(height * scale)), max(self.side, int(width * scale)))
        planes = torch.from_numpy(frame.astype(np.float32)).permute(2, 0, 1)[None]
        scaled = F.interpolate(planes, size=size, mode="bilinear", align_corners=False)
        top, left = ((side - self.side) // 2 for side in size)
        square = scaled[0, :, top : top + self.side, left : left + self.side].permute(1, 2, 0)
        return np.ascontiguousarray(square.floor().numpy().astype(frame.dtype))


def find_protocol(name: str | None) -> Protocol:
    """The paper's protocol of that name; without a name, ours."""
    if name is None:
        return Protocol()
    if name not in PROTOCOLS:
        raise UsageError(f"{name}: no such protocol", f"there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


PROTOCOLS: Mapping[str, Protocol] = {
    "od-vae-paper": Protocol(
        name="od-vae-paper",
        about=(
            "short side 256 (bilinear, no antialiasing), centre 256×256, frames 0 to 24, sampled latents, "
            "levels truncated; PSNR: 100 dB for identical frames; LPIPS alex: mean of the full-size map. The "
            "authors also score through mp4v files and run in bf16: neither is implied here"
        ),
        side=256,
        frames=25,
        sample=True,
        truncate=True,
        options={"psnr": {"ceiling": 100.0}, "lpips": {"spatial": True}},
    ),
    "cv-vae-paper": Protocol(
        name="cv-vae-paper",
        about=(
            "scaled and cropped to 256×256 (bilinear, centre: ours, the paper does not say), 33 frames, "
            "every 3rd, sampled latents, levels truncated; averaging and LPIPS backbone are not published: "
            "ours. The authors' script also writes H.264 at crf 10: not implied here"
        ),
        side=256,
        frames=33,
        stride=3,
        sample=True,
        truncate=True,
    ),
}
