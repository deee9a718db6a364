"""A writer leaves a whole file, or what was there before."""

import os
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from vidlatent.clock import FrameClock
from vidlatent.errors import BadInput, BadLatentFile, OutOfResources, UsageError
from vidlatent.files import partial_path
from vidlatent.grid import Grid
from vidlatent.io.latent.header import LatentHeader, Pad, Source
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.windows import Plan, TimeRule

HEADER = LatentHeader(
    *("toy", "", {}, Grid(4, 8), Plan(TimeRule(32, 1), TimeRule(15, 1))),
    source=Source("clip.mp4", 0, 16, 16),  # the end of the clip is not known yet
)
CLOCK = FrameClock(Fraction(1, 30), np.arange(17))
LATENTS = torch.randn(5, 4, 2, 2)


def known(frames: int, **facts: object) -> LatentHeader:
    """The header once the clip has ended."""
    return replace(HEADER, source=replace(HEADER.source, frames=frames), **facts)


def writer_at(path: Path, header: LatentHeader = HEADER, dtype: str = "F32") -> LatentWriter:
    """A writer of latents [t, 4, 2, 2]."""
    return LatentWriter(path, header, 4, 2, 2, dtype, header.posterior == "full")


def test_nothing_is_at_the_path_until_close(tmp_path: Path):
    path = tmp_path / "clip.latent"
    with writer_at(path) as writer:
        writer.append(LATENTS)
        assert os.listdir(tmp_path) == [".clip.latent.partial"]
        writer.close(CLOCK, header=known(17))
        assert os.listdir(tmp_path) == ["clip.latent"]


def test_facts_known_only_at_the_end_replace_those_of_the_start(tmp_path: Path):
    path = tmp_path / "clip.latent"
    header = known(15, pad=Pad(frames=2), config={"later": "known"})
    with writer_at(path) as writer:
        writer.append(LATENTS)
        writer.close(FrameClock(Fraction(1, 30), np.arange(15)), header=header)
    with open_latent(path) as reader:
        assert reader.header == header


def test_a_header_that_outgrows_its_room_moves_the_data(tmp_path: Path):
    """More than one copy block of latents, so that the move is cut, and overlaps itself."""
    path, tags = tmp_path / "clip.latent", {f"tag {i}": "x" * 50 for i in range(500)}
    header = replace(HEADER, source=Source("clip.mp4", 0, 2048, 2048))
    latents = torch.randn(5, 2, 256, 256)
    with LatentWriter(path, header, 2, 256, 256, "F32") as writer:
        writer.append(latents)
        end = replace(header, source=replace(header.source, frames=17), config=tags)
        writer.close(CLOCK, header=end)
    with open_latent(path) as reader:
        assert reader.header.config == tags
        assert torch.equal(reader.read(0, 5), latents)
        reader.verify()
    with safe_open(path, "pt") as file:
        assert torch.equal(file.get_tensor("latents"), latents)


def test_latents_begin_on_a_page(tmp_path: Path):
    path = tmp_path / "clip.latent"
    with writer_at(path) as writer:
        writer.append(LATENTS)
        writer.close(CLOCK, header=known(17))
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    assert (8 + length) % 4096 == 0


def test_latents_are_on_disk_at_once(tmp_path: Path):
    header = replace(HEADER, source=Source("clip.mp4", 0, 512, 512))
    path = tmp_path / "clip.latent"
    with LatentWriter(path, header, 4, 64, 64, "F32") as writer:
        for count in range(1, 4):
            writer.append(torch.zeros(16, 4, 64, 64))
            assert partial_path(path).stat().st_size >= count * 16 * 4 * 64 * 64 * 4


def test_the_same_latents_make_the_same_bytes_however_they_come(tmp_path: Path):
    for name, cuts in (("a", [5]), ("b", [1, 1, 3]), ("c", [2, 0, 3])):
        with writer_at(tmp_path / name) as writer:
            for piece in LATENTS.split(cuts):
                writer.append(piece)
            writer.close(CLOCK, header=known(17))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_or_ctrl_c_in_mid_clip_keeps_the_old_file_and_removes_the_partial(
    tmp_path: Path, error: type
):
    path = tmp_path / "clip.latent"
    path.write_bytes(b"old")
    full = replace(HEADER, posterior="full")
    with pytest.raises(error), writer_at(path, full) as writer:
        writer.append(LATENTS, LATENTS)
        assert len(os.listdir(tmp_path)) == 3
        raise error
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"old", ["clip.latent"])


def test_leaving_without_close_leaves_nothing(tmp_path: Path):
    with writer_at(tmp_path / "clip.latent") as writer:
        writer.append(LATENTS)
    assert os.listdir(tmp_path) == []


WRONG_ENDS = {
    "too few frames": (known(16), CLOCK, "decode to 17 frames .* promises 16"),
    "a clip of nothing": (HEADER, CLOCK, "at least one frame"),
    "a clock of another clip": (
        known(17),
        FrameClock(Fraction(1, 30), np.arange(16)),
        r"pts: expected I64 \[17\]",
    ),
    "a clock of floats": (known(17), FrameClock(Fraction(1, 30), np.arange(17) / 30), "Cannot cast"),
    "logvar that never came": (known(17, posterior="full"), CLOCK, "posterior full, but there is no"),
    "facts without end": (
        known(17, config={"x": "x" * (1 << 20)}),
        CLOCK,
        "header: expected at most 1048576",
    ),
}


@pytest.mark.parametrize("wrong", WRONG_ENDS)
def test_a_close_that_would_write_a_lie_writes_nothing(tmp_path: Path, wrong: str):
    header, clock, told = WRONG_ENDS[wrong]
    with writer_at(tmp_path / "clip.latent") as writer:
        writer.append(LATENTS)
        with pytest.raises((ValueError, TypeError), match=told):
            writer.close(clock, header=header)
    assert os.listdir(tmp_path) == []


def test_times_that_run_backwards_are_the_fault_of_the_source(tmp_path: Path):
    backwards = FrameClock(Fraction(1, 30), -np.arange(17))
    with (
        writer_at(tmp_path / "a") as writer,
        pytest.raises(BadInput, match="a: pts: time runs backwards, 0 to -1"),
    ):
        writer.append(LATENTS)
        writer.close(backwards, header=known(17))
    assert os.listdir(tmp_path) == []


def test_latents_of_another_shape_are_refused(tmp_path: Path):
    with (
        writer_at(tmp_path / "a") as writer,
        pytest.raises(ValueError, match=r"of \[4, 2, 2\], got \[4, 2, 3\]"),
    ):
        writer.append(torch.zeros(1, 4, 2, 3))


def test_logvar_comes_with_posterior_full_and_only_then(tmp_path: Path):
    with pytest.raises(ValueError, match="posterior full, and only then; got mode"):
        LatentWriter(tmp_path / "a", HEADER, 4, 2, 2, "F32", with_logvar=True)
    with (
        writer_at(tmp_path / "a") as writer,
        pytest.raises(ValueError, match="with every latent, or with none"),
    ):
        writer.append(LATENTS, LATENTS)
    assert os.listdir(tmp_path) == []


def test_a_number_too_large_for_the_stored_dtype_is_refused(tmp_path: Path):
    latents = LATENTS.clone()
    latents[1, 0, 0, 0] = 70_000.0
    with (
        writer_at(tmp_path / "a", dtype="F16") as writer,
        pytest.raises(BadInput, match="a: latent frame 1 holds NaN or infinity as F16"),
    ):
        writer.append(latents)


def test_logvar_that_is_no_number_is_refused(tmp_path: Path):
    full = replace(HEADER, posterior="full")
    with writer_at(tmp_path / "a", full) as writer, pytest.raises(BadInput, match="logvar of latent frame 0"):
        writer.append(LATENTS, LATENTS * torch.nan)


@pytest.mark.parametrize("limit_bytes", [1, 50_000, 102_400, 168_000])
def test_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path, limit_bytes: int, file_size_limit):
    """At the reserved header, among the latents, among the logvar, at the end of it all."""
    header = replace(HEADER, posterior="full", source=Source("clip.mp4", 17, 256, 256))
    path, latents = tmp_path / "clip.latent", torch.zeros(5, 4, 32, 32)
    with file_size_limit(limit_bytes), pytest.raises(OutOfResources, match=r"clip\.latent: disk full"):  # noqa: SIM117
        with LatentWriter(path, header, 4, 32, 32, "F32", True) as writer:
            writer.append(latents, latents)
            writer.close(CLOCK)
    assert os.listdir(tmp_path) == []


def test_a_second_writer_of_one_file_is_refused_and_the_first_unharmed(tmp_path: Path):
    path = tmp_path / "clip.latent"
    with writer_at(path) as writer:
        writer.append(LATENTS)
        with pytest.raises(UsageError, match="another run is writing it"):
            writer_at(path)
        writer.close(CLOCK, header=known(17))
    with open_latent(path) as reader:
        reader.verify()


def test_a_writer_that_cannot_begin_lets_go_of_the_file(tmp_path: Path):
    path, in_the_way = tmp_path / "clip.latent", tmp_path / ".clip.latent.logvar.partial"
    in_the_way.mkdir()
    with pytest.raises(UsageError, match=r"\.clip\.latent\.logvar\.partial: cannot be written"):
        writer_at(path)
    in_the_way.rmdir()
    with writer_at(path) as writer:
        writer.append(LATENTS)
        writer.close(CLOCK, header=known(17))
    assert path.exists()


def test_what_is_not_in_the_file_is_not_read_from_it(tmp_path: Path):
    with writer_at(tmp_path / "clip.latent") as writer:
        writer.append(LATENTS)
        writer.close(CLOCK, header=known(17))
    with open_latent(tmp_path / "clip.latent") as reader:
        with pytest.raises(BadLatentFile, match=r"clip\.latent: holds no logvar") as e:
            reader.read_logvar(0, 1)
        assert e.value.hint == "encode with posterior full to keep it"
        with pytest.raises(ValueError, match="latent frames 3 to 6 of 5"):
            reader.read(3, 6)


def test_what_is_open_goes_on_being_what_it_was_while_it_is_replaced(tmp_path: Path):
    path = tmp_path / "clip.latent"
    for fill in (1.0, 2.0):
        with writer_at(path) as writer:
            writer.append(torch.full_like(LATENTS, fill))
            writer.close(CLOCK, header=known(17))
        if fill == 1.0:
            reader = open_latent(path)
    with reader:
        assert reader.read(0, 5).unique().tolist() == [1.0]


def test_latents_of_the_first_frame_come_back_and_are_as_many(tmp_path: Path):
    first = torch.randn_like(LATENTS)
    with writer_at(tmp_path / "a") as writer:
        writer.append(LATENTS)
        writer.add_first_frame(first.split(2))
        writer.close(CLOCK, header=known(17))
    with open_latent(tmp_path / "a") as reader:
        reader.verify()
        assert torch.equal(reader.read_first_frame(0, reader.frames), first)
        assert torch.equal(reader.read(0, reader.frames), LATENTS)
    with writer_at(tmp_path / "b") as writer, pytest.raises(ValueError, match="first_frame: expected"):
        writer.append(LATENTS)
        writer.add_first_frame(first[:-1].split(2))
        writer.close(CLOCK, header=known(17))
    assert not (tmp_path / "b").exists()
