"""Memory does not grow with the clip: a peak of many frames against one of 65, each in its own process."""

import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from functools import cache

import av
import numpy as np
import pytest
import torch
from helpers import warm
from helpers.stored import pack
from safetensors.torch import save_file

from vidlatent import encode, load_model, open_latent
from vidlatent.clock import FrameClock
from vidlatent.io.coded.int8 import Int8
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.jobs.encode import EncodeOptions
from vidlatent.models.pocket_vae import PocketVAE, spec_of

SHORT = 65
WINDOW_BYTES_PER_PX = 9 * 3 * 4  # one window of frames as the network sees it, float32

NARROW = {"_class_name": "PocketVAE", "stem": 8, "width": 16, "encoder_blocks": 2, "decoder_blocks": 2}
MAIN = """
import sys
from vidlatent.allocator import map_large_blocks
from vidlatent.cli.app import run
from vidlatent.engine.runtime import peak_host_bytes
from vidlatent.io.coded import packed
from vidlatent.jobs.small import sensitivity
packed.SAMPLE_VALUES, sensitivity.SIDE = 1 << 14, 32  # as much as of a short clip
map_large_blocks()
assert run(sys.argv[1:]) == 0
print(peak_host_bytes())
"""
FFV1 = ("--codec", "ffv1")  # holds no frames back
# H.264 looks frames ahead and holds 0.6 MB for each of 320x240; in smaller pictures that is a window.
INT8, PACKED = ("--store", "int8"), ("--store", "packed")
CASES = [
    pytest.param(160, 513, "encode", (), None, id="encode"),
    pytest.param(160, 513, "decode", FFV1, None, id="decode"),
    pytest.param(160, 4097, "encode", (), None, id="encode, longer", marks=pytest.mark.slow),
    pytest.param(160, 4097, "decode", FFV1, None, id="decode, longer", marks=pytest.mark.slow),
    pytest.param(320, 2049, "decode", (), None, id="decode to H.264", marks=pytest.mark.slow),
    pytest.param(160, 1025, "encode", INT8, None, id="encode int8", marks=pytest.mark.slow),
    pytest.param(160, 1025, "encode", PACKED, None, id="encode packed", marks=pytest.mark.slow),
    pytest.param(160, 1025, "decode", FFV1, "int8", id="decode int8", marks=pytest.mark.slow),
    pytest.param(160, 1025, "decode", FFV1, "packed", id="decode packed", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def make_clips(tmp_path_factory):
    """Folders with a narrow model and clips, by the side of their pictures; each clip is made once."""
    folder_of = cache(lambda side: write_model(tmp_path_factory.mktemp(f"clips{side}")))
    return cache(lambda side, frames: write_clip(folder_of(side) / f"{frames}.mp4", side, frames))


def write_model(folder):
    """A narrow model with random weights."""
    (folder / "config.json").write_text(json.dumps(NARROW))
    torch.manual_seed(0)
    save_file(PocketVAE(spec_of(NARROW)).state_dict(), folder / "model.safetensors")
    return folder


def write_clip(path, side, frames):
    """A ramp that moves."""
    y, x = np.mgrid[:side, :side]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "bf": "0"})
        stream.width = stream.height = side
        stream.pix_fmt = "gray"
        for n in range(frames):
            pixels = ((x + 2 * n + y) % 256).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")))
        container.mux(stream.encode())
    return path


def write_latents(path, short, frames, form):
    """The latents of the `short` clip again and again, until they are those of so many frames."""
    with open_latent(short) as given:
        header, latents = given.header, given.read(0, given.frames)
    header = replace(header, source=replace(header.source, frames=frames))
    stored = {None: "F32", "int8": Int8(), "packed": pack(latents, 0.1)}[form]
    with LatentWriter(path, header, *latents.shape[1:], stored) as writer:
        writer.append(latents[:1])
        for _ in range(1, frames, SHORT - 1):
            writer.append(latents[1:])
        writer.close(FrameClock(Fraction(1, 30), np.arange(frames)))
    return path


def sources(clips, side, frames, command, form):
    """A short one and a long one of what the command reads; latents are stored in a form."""
    short = clips(side, SHORT)
    if command == "encode":
        return short, clips(side, frames)
    model = load_model(short.parent, device="cpu")
    latents = encode(short, short.with_suffix(".latent"), model, EncodeOptions(force=True)).target
    return [write_latents(short.with_name(f"{n}.long.latent"), latents, n, form) for n in (SHORT, frames)]


def peak(source, command, options) -> int:
    """Peak resident bytes of the command line on `source`."""
    target = source.with_name("out.latent" if command == "encode" else "out.mkv")
    words = [command, source, "-o", target, "--weights", source.parent, "--force", *options]
    return int(warm.run(["-c", MAIN, *words], stdout=subprocess.PIPE, check=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the kernel's account of a child")
@pytest.mark.parametrize(("side", "frames", "command", "options", "form"), CASES)
def test_a_long_clip_takes_less_than_one_window_more(
    make_clips, monkeypatch, tmp_path, side, frames, command, options, form
):
    monkeypatch.setenv("HF_ASSETS_CACHE", str(tmp_path))  # where it is kept what channels weigh
    short, long = (peak(s, command, options) for s in sources(make_clips, side, frames, command, form))
    assert long - short < WINDOW_BYTES_PER_PX * side**2, f"{(long - short) / 1e6:.1f} MB"
