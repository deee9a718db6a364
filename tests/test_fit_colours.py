"""bin/fit-colours on a folder of its own: colours come out that show what the latents hold."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from helpers import warm
from helpers.paths import ROOT, SAMPLE

import vidlatent
from vidlatent.engine.pixels import to_model
from vidlatent.models import registry
from vidlatent.models.causal import TimeState
from vidlatent.models.projection import Projection

POCKET = ROOT / "assets" / "pocket"
BLOCKS_PSNR_DB = 23  # of the mean colours of blocks; Pocket has 26 here, one grey for all of them 15


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> tuple[Path, dict]:
    """A copy of Pocket without colours, fitted to the sample clip, and what the script said."""
    folder, data = tmp_path_factory.mktemp("pocket"), tmp_path_factory.mktemp("data")
    config = json.loads((POCKET / "config.json").read_text())
    del config["colours"]
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(POCKET / "model.safetensors", folder)
    shutil.copy(SAMPLE, data)
    command = [ROOT / "bin" / "fit-colours", folder, "--data", data]
    run = warm.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return folder, json.loads(run.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def clip() -> tuple[torch.Tensor, torch.Tensor]:
    """Latents [1, C, t, h, w] of the sample clip's beginning, and the mean colours of their blocks."""
    model = vidlatent.load_model(POCKET, device="cpu", dtype=torch.float32)
    with vidlatent.open_video(SAMPLE) as video:
        frames = [frame.rgb for frame, _ in zip(video.frames(), range(9), strict=False)]
    moments = torch.cat(list(model.encode_stream(frames)), dim=2)
    pixels = to_model(frames[::4], model.spec.grid, torch.device("cpu"), torch.float32)
    return moments.chunk(2, dim=1)[0], torch.nn.functional.avg_pool3d(pixels, (1, 8, 8))


def psnr(folder: Path, clip: tuple[torch.Tensor, torch.Tensor]) -> float:
    """How well a model's colours show the clip."""
    latents, blocks = clip
    (shown,) = Projection(registry.spec_from(folder / "config.json")).decode(latents, TimeState())
    assert shown.shape == blocks.shape
    return float(-10 * ((shown - blocks).square().mean() / 4).log10())


def test_colours_lie_in_the_config_but_are_no_part_of_the_network(fitted):
    folder, told = fitted
    spec = registry.resolve(folder).spec
    assert len(spec.colours.weights) == spec.channels and len(spec.colours.bias) == 3
    assert "colours" not in spec.config
    assert min(told["psnr"]) > BLOCKS_PSNR_DB


def test_the_bundled_colours_are_nearly_as_good_as_those_of_the_clip_itself(fitted, clip):
    own, bundled = psnr(fitted[0], clip), psnr(POCKET, clip)
    assert own > bundled > max(BLOCKS_PSNR_DB, own - 2)
