"""XPSNR (Helmrich et al. 2020), by the filter inside ffmpeg."""

import re

import numpy as np
from torch import Tensor

from vidlatent.errors import BadInput
from vidlatent.metrics.base import Better, Series, check_pair
from vidlatent.metrics.ffmpeg import LOG, SHALLOW, PairPipe, find_scorer

_FRAME = re.compile(r"n:\s*\d+\s+XPSNR y:\s*(\S+)\s+XPSNR u:\s*(\S+)\s+XPSNR v:\s*(\S+)")


class Xpsnr:
    """Perceptually weighted PSNR of the luma of every frame, and the mean of each chroma plane.

    Sources of more than 8 bits are measured in 8 too: at 10 bits the filter of FFmpeg 9.0.2 is about 16 dB
    off.
    """

    name = "xpsnr"
    unit = "dB"
    better: Better = "higher"

    def __init__(self) -> None:
        self._scorer = find_scorer("xpsnr")
        self._planes = [Series("xpsnr y"), Series("xpsnr u"), Series("xpsnr v")]
        self._pipe: PairPipe | None = None
        self._frames = 0
        self.protocol = (
            f"xpsnr filter of ffmpeg {self._scorer.version}; RGB to BT.709 limited 4:2:0 of 8 bits; luma; "
            "mean: average of the dB of the frames that differ, inf where none does"
        )

    def update(self, reference: Tensor, distorted: Tensor) -> None:
        """Take the next frames, [T, H, W, 3]."""
        check_pair(reference, distorted)
        if self._pipe is None:
            graph = f"[ref][dist]xpsnr=stats_file={LOG}"
            self._pipe = PairPipe(self._scorer, graph, SHALLOW, reference)
        self._pipe.write(reference, distorted)
        self._frames += len(reference)

    def per_frame(self) -> np.ndarray:
        """Luma XPSNR of every frame; ends the measuring."""
        self._finish()
        return self._planes[0].array()

    def result(self) -> dict[str, float]:
        """`mean` and `worst` of luma, and the means of `u` and `v`, in dB."""
        self._finish()
        y, u, v = (_mean(plane.require_array()) for plane in self._planes)
        return {"mean": y, "worst": float(self.per_frame().min()), "u": u, "v": v}

    def _finish(self) -> None:
        if self._pipe is None:
            return
        frames = _FRAME.findall(self._pipe.finish())
        self._pipe = None
        if len(frames) != self._frames:
            raise BadInput(f"xpsnr: gave {self._frames} frames to ffmpeg, it scored {len(frames)}")
        for plane, values in zip(self._planes, zip(*frames, strict=True), strict=True):
            plane.extend(float(value) for value in values)


def _mean(decibels: np.ndarray) -> float:
    differ = decibels[np.isfinite(decibels)]
    return float(differ.mean()) if len(differ) else float("inf")
