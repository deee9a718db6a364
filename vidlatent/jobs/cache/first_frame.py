"""Latents for image-to-video: those of a clip that is the first frame, and then nothing.

Diffusion models that animate a picture are fed these beside the noise, and a mask that says where the picture
is known: ones for the first latent frame, zeros for all others. Nothing is zero in the network's own units,
which is grey.
"""

from collections.abc import Iterator
from itertools import chain, repeat

import numpy as np
import torch
from torch import Tensor

from vidlatent.engine.model import Model
from vidlatent.engine.pixels import to_floats
from vidlatent.jobs.encode import put_time_first
from vidlatent.models.base import Posterior
from vidlatent.windows import Plan


class FirstFrame:
    """Keeps the first of the frames that pass by."""

    def __init__(self) -> None:
        self._frame: np.ndarray | None = None

    def watch(self, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The frames [H, W, 3] as they are."""
        for frame in frames:
            if self._frame is None:
                self._frame = frame
            yield frame

    def encode(self, model: Model, plan: Plan, latents: int) -> Iterator[Tensor]:
        """So many latents [t, C, h, w] of the first frame and then zeros, in pieces: the posterior's mean."""
        first = to_floats(torch.from_numpy(self._frame)).movedim(-1, 0)[None]  # H W 3 → 1 3 H W
        count = model.spec.grid.frames(latents)
        frames = chain([first], repeat(torch.zeros_like(first), count - 1))
        for moments in model.encode_stream(frames, plan, count):
            yield put_time_first(Posterior.of(moments).mode())
