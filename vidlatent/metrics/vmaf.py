"""VMAF, by the libvmaf inside ffmpeg."""

import json

import numpy as np
import torch
from torch import Tensor

from vidlatent.errors import BadInput
from vidlatent.metrics.base import Better, Series, check_pair
from vidlatent.metrics.ffmpeg import DEEP, LOG, SHALLOW, PairPipe, count_threads, find_scorer

MODEL = "vmaf_v0.6.1"


class Vmaf:
    """VMAF of every frame, 0 to 100, by the model for television at 1080p.

    A frame without motion scores 97.4 at most, even against itself: that is how the model was trained, and
    the first frame of a clip has no motion. No option of the filter changes that without changing the other
    frames' values (`enable_transform` is the model for phones), so the numbers of libvmaf are reported as
    they are.
    """

    name = "vmaf"
    unit = ""
    better: Better = "higher"

    def __init__(self) -> None:
        self._scorer = find_scorer("libvmaf")
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
            log = f"log_fmt=json:log_path={LOG}"
            graph = f"[dist][ref]libvmaf=model=version={MODEL}:{log}:n_threads={count_threads()}"
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
        values = self._series.require_array()
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
