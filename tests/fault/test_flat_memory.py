"""Memory does not grow with the clip: a peak of 2,049 frames against one of 65, each in its own process."""

import json
import subprocess
import sys
from functools import cache

import av
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vidlatent.models.pocket_vae import PocketVAE, spec_of

SHORT, LONG = 65, 2049
WINDOW_BYTES_PER_PX = 9 * 3 * 4  # one window of frames as the network sees it, float32

NARROW = {"_class_name": "PocketVAE", "stem": 8, "width": 16, "encoder_blocks": 2, "decoder_blocks": 2}
MAIN = """
import sys
from vidlatent.allocator import map_large_blocks
from vidlatent.cli.app import run
from vidlatent.engine.runtime import peak_host_bytes
map_large_blocks()
assert run(sys.argv[1:]) == 0
print(peak_host_bytes())
"""
FFV1 = ("--codec", "ffv1")  # holds no frames back
# H.264 looks frames ahead and holds 0.6 MB for each of 320x240; in smaller pictures that is a window.
CASES = [
    pytest.param(160, "encode", (), id="encode"),
    pytest.param(160, "decode", FFV1, id="decode"),
    pytest.param(320, "decode", (), id="decode to H.264", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def make_clips(tmp_path_factory):
    """Folders of clips by the side of their pictures, each made once."""
    return cache(lambda side: write_clips(tmp_path_factory.mktemp(f"clips{side}"), side))


def write_clips(folder, side):
    """Two clips that differ in length alone, and a narrow model with random weights."""
    (folder / "config.json").write_text(json.dumps(NARROW))
    torch.manual_seed(0)
    save_file(PocketVAE(spec_of(NARROW)).state_dict(), folder / "model.safetensors")
    y, x = np.mgrid[:side, :side]
    for frames in (SHORT, LONG):
        with av.open(str(folder / f"{frames}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "bf": "0"})
            stream.width = stream.height = side
            stream.pix_fmt = "gray"
            for n in range(frames):
                pixels = ((x + 2 * n + y) % 256).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")))
            container.mux(stream.encode())
    return folder


def peak(clip, command, options=()) -> int:
    """Peak resident bytes of the command line on `clip`."""
    latent, film = clip.with_suffix(".latent"), clip.with_suffix(".mkv")
    source, target = (clip, latent) if command == "encode" else (latent, film)
    words = [command, str(source), "-o", str(target), "--weights", str(clip.parent), "--force", *options]
    run = subprocess.run([sys.executable, "-c", MAIN, *words], stdout=subprocess.PIPE, check=True)
    return int(run.stdout)


def latents_of(clip) -> None:
    """Encode `clip`, unless that was done before."""
    if not clip.with_suffix(".latent").exists():
        peak(clip, "encode")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the kernel's account of a child")
@pytest.mark.parametrize(("side", "command", "options"), CASES)
def test_a_long_clip_takes_less_than_one_window_more(make_clips, side, command, options):
    clips = make_clips(side)
    if command == "decode":
        for frames in (SHORT, LONG):
            latents_of(clips / f"{frames}.mp4")
    growth = peak(clips / f"{LONG}.mp4", command, options) - peak(clips / f"{SHORT}.mp4", command, options)
    assert growth < WINDOW_BYTES_PER_PX * side**2, f"{growth / 1e6:.1f} MB"
