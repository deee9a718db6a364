"""What only a GPU can show: the kernels made for it, the same metrics, flat device memory.

The authors' numbers there: `pytest tests/models -k golden --device cuda`.
"""

from itertools import cycle, islice

import numpy as np
import pytest
import torch

import vidlatent
from vidlatent.engine.runtime import peak_device_bytes
from vidlatent.metrics.flicker import Flicker
from vidlatent.metrics.lpips import Lpips
from vidlatent.metrics.psnr import Psnr
from vidlatent.metrics.ssim import MsSsim, Ssim

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.mark.parametrize("quiet", [torch.inference_mode, torch.no_grad])
def test_autocast_around_a_model_changes_nothing(quiet):
    model = vidlatent.load_model("pocket", device="cpu", dtype=torch.float32).to("cuda")
    clip = torch.rand(1, 3, 9, 64, 64, device="cuda") * 2 - 1
    with quiet():
        wanted = model.encode(clip).mean
        with torch.autocast("cuda", dtype=torch.bfloat16):
            found = model.encode(clip)
            assert torch.equal(found.mean, wanted)
            assert model.decode(found.mean, like=clip).dtype == torch.float32


def test_bf16_is_near_float32(moving_clip):
    frames = list(moving_clip(17, 64, 64))
    exact, quick = (
        torch.cat(
            list(vidlatent.load_model("pocket", device="cuda", dtype=dtype).encode_stream(frames)), dim=2
        )
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert (exact - quick).norm() / exact.norm() < 0.03


@pytest.mark.parametrize("metric", [Psnr, Ssim, MsSsim, Flicker, Lpips])
def test_metrics_say_the_same_as_on_the_host(metric, moving_clip):
    frames = moving_clip(4, 192, 192)
    noise = np.random.default_rng(0).integers(-9, 10, frames.shape)
    other = (frames.astype(int) + noise).clip(0, 255).astype(np.uint8)
    values = []
    for device in ("cpu", "cuda"):
        measured = metric()
        measured.update(*(torch.from_numpy(side).to(device) for side in (frames, other)))
        values.append(measured.per_frame())
    np.testing.assert_allclose(values[1], values[0], rtol=1e-4)


def test_device_memory_is_flat(moving_clip):
    model = vidlatent.load_model("pocket", device="cuda")
    clip = moving_clip(17, 256, 256)

    def peak(frames: int) -> int:
        torch.cuda.reset_peak_memory_stats()
        moments = model.encode_stream(islice(cycle(clip), frames))
        latents = (each for window in moments for each in window.chunk(2, dim=1)[0].unbind(2))
        for _ in model.decode_stream(latents):
            pass
        return peak_device_bytes(model.runtime.device)

    peak(321)  # several windows, as long as they are on a GPU
    window = model.spec.plan.encode_time.longest * clip[0].size * model.runtime.dtype.itemsize
    assert peak(1025) - peak(321) < window
