"""Measuring takes no more memory for a long clip than for a short one."""

import subprocess

import pytest
from helpers import warm

from vidlatent.metrics.ffmpeg import probe

SHORT, LONG = 16, 48  # two and six of the scoreboard's batches
SLACK_BYTES = 10 << 20  # allocator noise; 32 more frames of both clips would be 34 MB
CODE = """
import sys
import imageio_ffmpeg, numpy as np, torch
from vidlatent.allocator import map_large_blocks
from vidlatent.engine.runtime import peak_host_bytes
from vidlatent.jobs.measure.score import Scoreboard
from vidlatent.jobs.measure.pictures import KeptPictures
from vidlatent.metrics.table import make_metrics
map_large_blocks()
torch.set_num_threads(1)
names, frames = sys.argv[1].split(","), int(sys.argv[2])
board, pictures = Scoreboard(make_metrics(names)), KeptPictures()
noise = np.random.default_rng(0).integers(0, 255, (401, 448, 3)).astype(np.uint8)
for n in range(frames):
    reference, distorted = np.roll(noise, n, axis=0).copy(), np.roll(noise, n + 1, axis=0).copy()
    board.update(reference, distorted)
    pictures.update(reference, distorted)
board.scores()
print(peak_host_bytes())
"""


def peak(names: str, frames: int) -> int:
    """Peak resident bytes of a process of its own that measures so many frames."""
    return int(warm.run(["-c", CODE, names, frames], stdout=subprocess.PIPE, check=True).stdout)


@pytest.mark.parametrize(
    "names",
    [
        "psnr,flicker",
        pytest.param("psnr,ssim,ms-ssim,lpips,flicker,vmaf,xpsnr", marks=pytest.mark.slow),
    ],
)
def test_memory_does_not_grow_with_the_clip(names):
    import imageio_ffmpeg

    for filter_name, metric in (("xpsnr", "xpsnr"), ("libvmaf", "vmaf")):
        if metric in names.split(",") and filter_name not in probe(imageio_ffmpeg.get_ffmpeg_exe()).filters:
            pytest.skip(f"this ffmpeg has no {filter_name}")
    assert peak(names, LONG) - peak(names, SHORT) < SLACK_BYTES
