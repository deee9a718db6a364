"""Latents read through a memory map are those that reads give, and cost no more than what is looked at."""

import gc
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import warm

from vidlatent.clock import FrameClock
from vidlatent.errors import BadLatentFile
from vidlatent.grid import Grid
from vidlatent.io.file_parts import MappedPart
from vidlatent.io.latent.header import LatentHeader, Source
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.windows import Plan, TimeRule

LEAD = b"what lies before it" * 300  # not a whole number of pages
SMALL = (9, 4, 3, 5)
LARGE = (64, 16, 128, 128)  # 1 MB per latent frame in float32


def write(path: Path, shape: tuple[int, int, int, int], posterior: str = "mode") -> torch.Tensor:
    """A `.latent` of noise; its latents."""
    t, c, h, w = shape
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(t))
    frames = Grid(4, 8).frames(t)
    header = LatentHeader(
        model="toy",
        weights_sha256="",
        config={},
        grid=Grid(4, 8),
        plan=Plan(TimeRule(4), TimeRule(1)),
        posterior=posterior,
        source=Source("clip.mp4", frames, w * 8, h * 8),
    )
    with LatentWriter(path, header, c, h, w, "F32", posterior == "full") as writer:
        writer.append(latents, latents - 9 if posterior == "full" else None)
        writer.close(FrameClock(Fraction(1, 25), np.arange(frames, dtype=np.int64)))
    return latents


@pytest.fixture
def embedded(tmp_path) -> tuple[Path, tuple[int, int]]:
    """A file with mean and logvar inside another one, and where."""
    write(tmp_path / "a.latent", SMALL, "full")
    data = (tmp_path / "a.latent").read_bytes()
    (tmp_path / "all").write_bytes(LEAD + data + b"and after")
    return tmp_path / "all", (len(LEAD), len(data))


def test_sound_inside_a_file_inside_another_is_that_files_own(tmp_path):
    write(tmp_path / "a.latent", SMALL)
    (tmp_path / "sound").write_bytes(b"sound" * 99)
    with open_latent(tmp_path / "a.latent") as plain:
        header, clock, latents = plain.header, plain.clock, plain.read(0, plain.frames)
    with LatentWriter(tmp_path / "b.latent", header, *SMALL[1:], "F32") as writer:
        writer.append(latents)
        writer.close(clock, tmp_path / "sound")
    data = (tmp_path / "b.latent").read_bytes()
    (tmp_path / "all").write_bytes(LEAD + data + b"and after")
    with open_latent(tmp_path / "all", (len(LEAD), len(data))) as reader, reader.open_audio() as audio:
        assert audio.read() == b"sound" * 99
        assert audio.seek(-5, 2) == 99 * 5 - 5 and audio.read() == b"sound"


@pytest.mark.parametrize("span", [(-1, 2), (3, 2), (0, SMALL[0] + 1), (SMALL[0] + 1, SMALL[0] + 1)])
@pytest.mark.parametrize("mapped", [False, True])
def test_a_slice_that_is_not_of_the_clip_is_refused(embedded, span, mapped):
    path, part = embedded
    with open_latent(path, part, mapped=mapped) as reader:
        for read in (reader.read, reader.read_logvar, reader.read_checked):
            with pytest.raises(ValueError, match=f"latent frames {span[0]} to {span[1]} of {SMALL[0]}"):
                read(*span)
        assert reader.read(SMALL[0], SMALL[0]).shape == (0, *SMALL[1:])


def test_threads_that_share_a_reader_get_what_they_asked_for(tmp_path):
    """The position in a file is one for all: between a seek and its read nobody else may move it."""
    latents = write(tmp_path / "a.latent", (64, 4, 3, 5))
    with open_latent(tmp_path / "a.latent") as reader, ThreadPoolExecutor(8) as pool:
        for read in (reader.read, reader.read_checked):
            found = pool.map(lambda n, read=read: (n % 64, read(n % 64, n % 64 + 1)), range(512))
            assert all(torch.equal(z, latents[n : n + 1]) for n, z in found)


def test_every_slice_is_what_reads_give(embedded):
    path, part = embedded
    with open_latent(path, part) as plain, open_latent(path, part, mapped=True) as mapped:
        assert mapped.header == plain.header and mapped.clock == plain.clock
        for start in range(SMALL[0] + 1):
            for stop in range(start, SMALL[0] + 1):
                assert torch.equal(mapped.read(start, stop), plain.read(start, stop))
                assert torch.equal(mapped.read_logvar(start, stop), plain.read_logvar(start, stop))
        mapped.verify()


def test_what_was_read_outlives_the_map_and_may_be_written_to(embedded):
    path, part = embedded
    with open_latent(path, part, mapped=True) as mapped:
        first = mapped.read(0, 2)
        first.mul_(2)
        assert torch.equal(mapped.read(0, 2) * 2, first)
    del mapped
    gc.collect()
    assert torch.isfinite(first).all()


def test_latents_that_are_no_numbers_are_found(tmp_path):
    path = tmp_path / "a.latent"
    write(path, SMALL)
    with open_latent(path) as latents:
        start = latents._layout.data_start
    data = bytearray(path.read_bytes())
    data[start : start + 4] = np.float32(np.nan).tobytes()
    path.write_bytes(data)
    with (
        open_latent(path, mapped=True) as latents,
        pytest.raises(BadLatentFile, match="latent frame 0 hold NaN"),
    ):
        latents.read(0, 1)


@pytest.mark.parametrize("kept", [0, 5, 1000, -1])
def test_a_file_that_is_cut_is_refused(tmp_path, kept):
    path = tmp_path / "a.latent"
    write(path, SMALL)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BadLatentFile, match=r"a\.latent: (torn|empty|not a \.latent)"):
        open_latent(path, mapped=True)


def test_a_part_beyond_the_end_is_refused(embedded):
    path, (offset, size) = embedded
    with pytest.raises(BadLatentFile, match="torn file"):
        open_latent(path, (offset + 100, size), mapped=True)


def test_a_closed_map_is_gone(embedded):
    path, part = embedded
    mapped = MappedPart(path, part)
    mapped.close()
    mapped.close()
    with pytest.raises(ValueError, match="released"):
        len(mapped.view)


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="reads /proc")
def test_one_crop_of_a_large_file_reads_and_keeps_little_of_it(tmp_path):
    """Bytes by system calls (rchar) and pages of mapped files (RssFile), of a process that reads one crop."""
    path = tmp_path / "a.latent"
    expected = write(path, LARGE)[40]
    code = f"""
import json, torch
from pathlib import Path
from vidlatent.io.latent.reader import open_latent
def count(file, name):
    line = next(line for line in Path("/proc/self", file).read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * (1024 if line.endswith("kB") else 1)
def usage():
    return count("io", "rchar"), count("status", "RssFile")
with open_latent({str(path)!r}, mapped=True) as latents:
    latents.read(0, 1)  # whatever is loaded by then is
    before = usage()
    crop = latents.read(40, 41)
    after = usage()
print(json.dumps([b - a for a, b in zip(before, after)] + [float(crop.double().sum())]))
"""
    found = warm.run(["-c", code], stdout=subprocess.PIPE, check=True)
    read, mapped, total = json.loads(found.stdout)
    size, crop = path.stat().st_size, expected.numel() * 4
    assert size > 60 * crop and total == float(expected.double().sum())
    assert read < 64 << 10  # /proc itself; not the crop, which no system call reads
    assert crop <= mapped + (64 << 10) and mapped < 3 * crop
