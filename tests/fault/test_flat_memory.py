"""Memory does not grow with the clip: a peak of 2,049 frames against one of 65, each in its own process."""

import json
import subprocess
import sys

import av
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vidlatent.models.pocket_vae import PocketVAE, spec_of

SIDE_PX = 160
SHORT, LONG = 65, 2049
WINDOW_BYTES = 17 * SIDE_PX**2 * 3 * 4  # one window of frames as the network sees it, float32

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
CODEC = ["--codec", "ffv1"]  # keeps no frames back, as H.264 encoders do until their look-ahead is full


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder with two clips that differ in length alone, and a narrow model with random weights."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "config.json").write_text(json.dumps(NARROW))
    torch.manual_seed(0)
    save_file(PocketVAE(spec_of(NARROW)).state_dict(), folder / "model.safetensors")
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    for frames in (SHORT, LONG):
        with av.open(str(folder / f"{frames}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "bf": "0"})
            stream.width = stream.height = SIDE_PX
            stream.pix_fmt = "gray"
            for n in range(frames):
                pixels = ((x + 2 * n + y) % 256).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")))
            container.mux(stream.encode())
    return folder


def peak(clip, command) -> int:
    """Peak resident bytes of the command line on `clip`."""
    latent, film = clip.with_suffix(".latent"), clip.with_suffix(".mkv")
    source, target = (clip, latent) if command == "encode" else (latent, film)
    words = [command, str(source), "-o", str(target), "--weights", str(clip.parent)]
    words += CODEC if command == "decode" else []
    run = subprocess.run([sys.executable, "-c", MAIN, *words], stdout=subprocess.PIPE, check=True)
    return int(run.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the kernel's account of a child")
@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_long_clip_takes_less_than_one_window_more(clips, command):
    growth = peak(clips / f"{LONG}.mp4", command) - peak(clips / f"{SHORT}.mp4", command)
    assert growth < WINDOW_BYTES, f"{growth / 1e6:.1f} MB"
