"""A pair of clips from a formula: the same bytes on every machine, so that numbers can be stored."""

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def pair():
    """Builds (reference, distorted), uint8 [T, H, W, 3]: waves that move; the same, darker, with a grain."""

    def build(frames: int = 3, height: int = 192, width: int = 208) -> tuple[torch.Tensor, torch.Tensor]:
        t, y, x, c = np.meshgrid(*(np.arange(n) for n in (frames, height, width, 3)), indexing="ij")
        waves = np.sin((x + 3 * t) / (5 + c)) + np.cos((y - 2 * t) / (9 - 2 * c)) * np.sin((x + y) / 31)
        reference = np.round(127.5 + 60 * waves)
        grain = (x * 7919 + y * 104729 + t * 1299709 + c * 15485863 + x * y) % 31 - 15
        distorted = np.clip(reference - 4 + grain, 0, 255)
        return tuple(torch.from_numpy(clip.astype(np.uint8)) for clip in (reference, distorted))

    return build
