"""VMAF, by the libvmaf inside ffmpeg."""

import json

import numpy as np
import torch
from torch import Tensor

from vidlatent.errors import BadInput
from vidlatent.metrics.base import Better, Series, check_pair
from vidlatent.metrics.ffmpeg import DEEP, LOG, SHALLOW, PairPipe, scorer, threads

MODEL = "vmaf_v0.6.1"


class Vmaf:
    """VMAF of every frame, 0 to 100, by the model for television at 1080p.

    A frame without motion scores 97.4 at most, even beside itself: so the model was trained. The first
    frame of a clip has none. The filter offers no way around it that leaves the other frames' numbers alone
    (its `enable_transform` is the model for phones), and we report what libvmaf says.
    """

    name = "vmaf"
    unit = ""
    better: Better = "higher"

    def __init__(self) -> None:
        self._scorer = scorer("libvmaf")
        self._series = Series(self.name)
        self._pipe: PairPipe | None = None
        self._frames = 0
        self.protocol = (
            f"libvmaf model {MODEL} in ffmpeg {self._scorer.version}, distorted clip first; RGB to "
            "BT.709 limited 4:2:0 of 8 bits (10 for deeper sources), no scaling; mean over frames; identical "
            "frames: 100, but 97.4 where nothing moves, as in every clip's first frame"
        )

    def update(self, reference: Tensor, distorted: Tensor) -> None:
        """Take the next frames, [T, H, W, 3]."""
        check_pair(reference, distorted)
        if self._pipe is None:
            graph = (
                f"[dist][ref]libvmaf=model=version={MODEL}:log_fmt=json:log_path={LOG}:n_threads={threads()}"
            )
            yuv = SHALLOW if reference.dtype == torch.uint8 else DEEP
            self._pipe = PairPipe(self._scorer, graph, yuv, reference)
        self._pipe.write(reference, distorted)
        self._frames += len(reference)

    def per_frame(self) -> np.ndarray:
        """VMAF of every frame; ends the measuring."""
        self._finish()
        return self._series.array()

    def result(self) -> dict[str, float]:
        """`mean` over the frames, `harmonic` mean of 1 + VMAF less 1 as libvmaf has it, and the `worst`."""
        self._finish()
        values = self._series.checked()
        harmonic = 1 / np.mean(1 / (values + 1)) - 1
        return {"mean": float(values.mean()), "harmonic": float(harmonic), "worst": float(values.min())}

    def _finish(self) -> None:
        if self._pipe is None:
            return
        frames = json.loads(self._pipe.finish())["frames"]
        self._pipe = None
        if len(frames) != self._frames:
            raise BadInput(f"vmaf: gave {self._frames} frames to libvmaf, it scored {len(frames)}")
        self._series.extend(frame["metrics"]["vmaf"] for frame in frames)
