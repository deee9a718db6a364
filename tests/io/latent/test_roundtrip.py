"""What is written to a `.latent` is what is read from it, however it was cut."""

import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from helpers.latent_edits import picture_of
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from vidlatent.clock import FrameClock
from vidlatent.errors import BadInput
from vidlatent.files import partial_path
from vidlatent.grid import Grid
from vidlatent.io.latent.header import LatentHeader, Pad, Source
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.windows import Plan, Tiling, TimeRule

GRID = Grid(4, 8)
PLAN = Plan(TimeRule(32, 1), TimeRule(15, 1), decode_tiles=Tiling(32, 24, 64, 192, slivers=True))
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def header_for(t: int, h: int, w: int, posterior: str = "mode", pad: Pad | None = None) -> LatentHeader:
    """A header whose clip becomes `t` latent frames of `h` × `w`."""
    pad = pad or Pad()
    return LatentHeader(
        model="toy",
        weights_sha256="ab" * 32,
        config={"block_out_channels": [8, 16], "scale": 0.5, "name": "größe"},
        grid=GRID,
        plan=PLAN,
        posterior=posterior,
        seed=7 if posterior == "sample" else None,
        source=Source(
            file="clip.mp4",
            frames=GRID.frames(t) - pad.frames,
            width=w * 8 - pad.columns,
            height=h * 8 - pad.rows,
            sha256="0f" * 32,
        ),
        pad=pad,
        picture=picture_of(w * 8 - pad.columns, h * 8 - pad.rows),
    )


def clock_for(frames: int) -> FrameClock:
    """A clock that is neither constant nor dense."""
    return FrameClock(Fraction(1, 90000), np.cumsum(np.arange(frames, dtype=np.int64) % 5 * 1501))


def write(path: Path, latents: torch.Tensor, cuts: list[int] | None = None, **facts: object) -> LatentHeader:
    """Write latents [t, C, h, w] in pieces that end at `cuts`."""
    t, c, h, w = latents.shape
    header = replace(header_for(t, h, w), **facts)
    with_logvar = header.posterior == "full"
    edges = [0, *sorted(cuts or []), t]
    with LatentWriter(path, header, c, h, w, "F32", with_logvar) as writer:
        for start, stop in itertools.pairwise(edges):
            piece = latents[start:stop]
            writer.append(piece, piece - 9 if with_logvar else None)
        writer.close(clock_for(header.source.frames))
    return header


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_was_written_is_read_whatever_the_shape_dtype_and_cuts(data: st.DataObject):
    t, c = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 5))
    h, w = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    dtype = data.draw(st.sampled_from(sorted(DTYPES)))
    posterior = data.draw(st.sampled_from(["mode", "sample", "full"]))
    pad = Pad(data.draw(st.integers(0, 3 if t > 1 else 0)), data.draw(st.integers(0, 7)))
    cuts = sorted(data.draw(st.lists(st.integers(0, t), max_size=4)))
    audio = data.draw(st.none() | st.binary(max_size=50))
    latents = torch.randn(t, c, h, w, generator=torch.Generator().manual_seed(t)).to(DTYPES[dtype])
    header, clock = header_for(t, h, w, posterior, pad), clock_for(GRID.frames(t) - pad.frames)
    with TemporaryDirectory() as folder:
        path, sound = Path(folder) / "clip.latent", Path(folder) / "sound.mka"
        if audio is not None:
            sound.write_bytes(audio)
        with LatentWriter(path, header, c, h, w, dtype, posterior == "full") as writer:
            for start, stop in zip([0, *cuts], [*cuts, t], strict=True):
                piece = latents[start:stop]
                writer.append(piece, -piece if posterior == "full" else None)
            writer.close(clock, sound if audio is not None else None)

        with open_latent(path) as reader:
            start = data.draw(st.integers(0, t))
            stop = data.draw(st.integers(start, t))
            assert reader.header == header
            assert (reader.shape, reader.dtype, reader.frames) == ((t, c, h, w), dtype, t)
            assert torch.equal(reader.read(start, stop), latents[start:stop])
            assert reader.has_logvar == (posterior == "full")
            if reader.has_logvar:
                assert torch.equal(reader.read_logvar(start, stop), -latents[start:stop])
            assert reader.clock == clock
            assert reader.has_audio == (audio is not None)
            if audio is not None:
                with reader.open_audio() as stored:
                    assert stored.read() == audio
            reader.verify()
        assert not list(Path(folder).glob(".*"))


def test_stock_safetensors_reads_and_slices_the_file(tmp_path: Path):
    latents = torch.randn(5, 4, 2, 3)
    write(tmp_path / "clip.latent", latents, [1, 2])
    with safe_open(tmp_path / "clip.latent", "pt") as file:
        assert file.metadata()["format"] == "vidlatent"
        assert torch.equal(file.get_slice("latents")[1:4], latents[1:4])
        assert file.get_tensor("pts").tolist() == clock_for(17).pts.tolist()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_latent_that_is_no_number_is_refused_and_its_frame_named(tmp_path: Path, value: float):
    path = tmp_path / "clip.latent"
    bad = torch.zeros(3, 4, 2, 2)
    bad[2, 1, 0, 1] = value
    with LatentWriter(path, header_for(5, 2, 2), 4, 2, 2, "F32") as writer:
        writer.append(torch.zeros(2, 4, 2, 2))
        with pytest.raises(BadInput, match="latent frame 4 holds NaN or infinity"):
            writer.append(bad)
    assert not path.exists() and not partial_path(path).exists()
