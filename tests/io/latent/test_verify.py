"""`verify` re-reads everything, and says what is damaged."""

import json
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from vidlatent.clock import FrameClock
from vidlatent.errors import BadLatentFile
from vidlatent.grid import Grid
from vidlatent.io.latent import parts as latent_parts
from vidlatent.io.latent import reader as latent_reader
from vidlatent.io.latent import writer as latent_writer
from vidlatent.io.latent.digests import BlockDigests
from vidlatent.io.latent.header import LatentHeader, Source
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.windows import Plan, TimeRule

BLOCK = 4096  # small blocks, so that a small file has several
FRAME = 2 * 16 * 16 * 4


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """9 latent frames of 2 kB in blocks of 4 kB, and their clock."""
    monkeypatch.setattr(latent_writer, "BLOCK_BYTES", BLOCK)
    monkeypatch.setattr(latent_parts, "BlockDigests", lambda: BlockDigests(BLOCK))
    header = LatentHeader(
        *("toy", "", {"a": 1}, Grid(4, 8), Plan(TimeRule(32, 1), TimeRule(15, 1))),
        source=Source("clip.mp4", 33, 128, 128),
    )
    with LatentWriter(tmp_path / "clip.latent", header, 2, 16, 16, "F32") as writer:
        writer.append(torch.randn(9, 2, 16, 16))
        writer.close(FrameClock(Fraction(1, 30), np.arange(33)))
    return tmp_path / "clip.latent"


def data_start(path: Path) -> int:
    """Where the tensors begin."""
    return 8 + struct.unpack("<Q", path.read_bytes()[:8])[0]


def flip(path: Path, offset: int) -> None:
    """Flip the lowest bit of one byte of the file."""
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 1
    path.write_bytes(raw)


DAMAGE = {
    "first byte": (0, "block 0 .* damaged `latents` 0 to 1"),
    "third block": (2 * BLOCK + 17, "block 2 .* damaged `latents` 4 to 5"),
    "end of latents": (9 * FRAME - 1, "block 4 .* damaged `latents` 8 to 8, `pts` 0 to 32"),
    "a checksum": (9 * FRAME + 33 * 8 + 3, "do not match the checksum of the whole"),
}


@pytest.mark.parametrize("where", DAMAGE)
def test_one_flipped_bit_of_data_is_found_and_its_block_named(path: Path, where: str):
    offset, told = DAMAGE[where]
    flip(path, data_start(path) + offset)
    with open_latent(path) as reader, pytest.raises(BadLatentFile, match=f"clip.latent: .*{told}"):
        reader.verify()


def test_a_clock_that_still_runs_is_checked_as_well(path: Path):
    """pts 0 1 2 … 32 with the last one changed to 33 is a valid clock, but not the one written."""
    flip(path, data_start(path) + 9 * FRAME + 32 * 8)
    with open_latent(path) as reader, pytest.raises(BadLatentFile, match="block 4 does not match"):
        reader.verify()


def test_a_changed_fact_is_found(path: Path):
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'"scale":"[1.0]"', b'"scale":"[2.0]"'))
    with open_latent(path) as reader, pytest.raises(BadLatentFile, match="header and checksums do not match"):
        reader.verify()


def test_a_changed_header_that_kept_its_meaning_is_fine(path: Path):
    """Another writer may order or pad the JSON as it likes."""
    raw, start = path.read_bytes(), data_start(path)
    header = json.loads(raw[8:start])
    text = json.dumps(dict(reversed(header.items())), indent=1).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[start:])
    with open_latent(path) as reader:
        reader.verify()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_reading_a_latent_that_is_no_number_is_an_error_that_names_its_frame(path: Path, value: float):
    raw = bytearray(path.read_bytes())
    struct.pack_into("<f", raw, data_start(path) + 7 * FRAME + 40, value)
    path.write_bytes(raw)
    with open_latent(path) as reader:
        assert reader.read(0, 7).shape[0] == 7
        with pytest.raises(BadLatentFile, match="latents of latent frame 7 hold NaN or infinity"):
            reader.read(5, 9)


def test_latents_that_never_were_numbers_are_found_though_their_checksum_is_right(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A foreign writer may have stored NaN and signed it."""
    monkeypatch.setattr(latent_writer, "first_not_finite", lambda latents: None)
    with open_latent(path) as reader:
        header, clock = reader.header, reader.clock
    latents = torch.zeros(9, 2, 16, 16)
    latents[3, 1, 2, 3] = torch.nan
    with LatentWriter(path, header, 2, 16, 16, "F32") as writer:
        writer.append(latents)
        writer.close(clock)
    with open_latent(path) as reader, pytest.raises(BadLatentFile, match="latent frame 3 hold NaN"):
        reader.verify()


def test_a_file_that_shrinks_while_it_is_open_is_torn(path: Path):
    with open_latent(path) as reader:
        with path.open("rb+") as file:
            file.truncate(data_start(path) + 5 * FRAME)
        assert reader.read(0, 5).shape[0] == 5
        with pytest.raises(BadLatentFile, match="torn file: expected 4096 bytes"):
            reader.read(4, 6)


def test_reading_touches_only_the_bytes_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []
    real = latent_reader.LatentReader._read_into
    monkeypatch.setattr(
        latent_reader.LatentReader,
        "_read_into",
        lambda self, target, offset: (asked.append((offset, len(target))), real(self, target, offset)),
    )
    with open_latent(path) as reader:
        asked.clear()
        reader.read(3, 5)
    assert asked == [(3 * FRAME, 2 * FRAME)]


def test_digests_do_not_depend_on_how_the_bytes_come():
    data = bytes(range(256)) * 40
    whole, pieces = BlockDigests(4096), BlockDigests(4096)
    whole.update(data)
    for start in range(0, len(data), 999):
        pieces.update(data[start : start + 999])
    digests = whole.digests()
    assert digests == pieces.digests()
    assert len(digests) == 3 * 32


@pytest.mark.parametrize("where", [0, 2 * BLOCK + 17, 9 * FRAME - 1, 9 * FRAME + 8])
def test_reading_by_blocks_finds_what_reading_by_slices_cannot(path: Path, where: int):
    """And names the block; what lies before it was good, and is given."""
    flip(path, data_start(path) + where)
    with open_latent(path) as reader:
        reader.read(0, 9)
        with pytest.raises(
            BadLatentFile, match=f"block {where // BLOCK} does not match its checksum: damaged"
        ):
            reader.read_checked(0, 9)


def test_only_blocks_that_are_read_are_checked_and_each_of_them_once(path: Path, monkeypatch):
    asked = []
    real = latent_reader.LatentReader._read_into
    monkeypatch.setattr(
        latent_reader.LatentReader,
        "_read_into",
        lambda self, target, offset: (asked.append((offset, len(target))), real(self, target, offset)),
    )
    flip(path, data_start(path))  # of the first block, which nobody asks for below
    with open_latent(path) as reader:
        with pytest.raises(BadLatentFile, match="block 0 "):
            reader.read_checked(0, 1)
        asked.clear()
        parts = [reader.read_checked(n, n + 1) for n in range(3, 7)]  # of two rows each block has
        assert torch.equal(torch.cat(parts), reader.read(3, 7))
    assert [offset // BLOCK for offset, _ in asked[:-1]] == [1, 2, 3]


def test_what_a_file_lacks_is_said_with_how_to_have_it(path: Path):
    with open_latent(path) as reader:
        with pytest.raises(BadLatentFile, match="holds no logvar\nhint: encode with posterior full"):
            reader.read_checked(0, 1, "logvar")
        with pytest.raises(BadLatentFile, match="holds no latents of its first frame"):
            reader.read_first_frame(0, 1)


@pytest.mark.parametrize(("tensor", "begin"), [("pts", 257 * 8), ("durations", 257 * 8 + 1025 * 8)])
def test_the_clock_is_checked_before_latents_are_given(tmp_path, monkeypatch, tensor, begin):
    """Damage there is found by no look at the latents, and leaves a clock that could be one."""
    monkeypatch.setattr(latent_writer, "BLOCK_BYTES", BLOCK)
    monkeypatch.setattr(latent_parts, "BlockDigests", lambda: BlockDigests(BLOCK))
    plan = Plan(TimeRule(32, 1), TimeRule(15, 1))
    header = LatentHeader("toy", "", {"a": 1}, Grid(4, 8), plan, source=Source("clip.mp4", 1025, 8, 8))
    path = tmp_path / "clip.latent"
    with LatentWriter(path, header, 2, 1, 1, "F32") as writer:
        writer.append(torch.randn(257, 2, 1, 1))
        writer.close(FrameClock(Fraction(1, 30), 2 * np.arange(1025), np.ones(1025, np.int64)))
    flip(path, data_start(path) + begin + 600 * 8)
    with open_latent(path) as latents, pytest.raises(BadLatentFile, match=rf"damaged `{tensor}` \d+ to \d+"):
        latents.read_checked(0, 1)
