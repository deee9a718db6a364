"""The description of the format for strangers is true: its example runs, its checksums can be recomputed."""

import hashlib
import json
import re
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.latent_edits import picture_of
from helpers.paths import ROOT
from helpers.stored import all_of, cut, pack, write
from safetensors import safe_open

import vidlatent
from vidlatent.clock import FrameClock
from vidlatent.grid import Grid
from vidlatent.io.coded.form import Form
from vidlatent.io.coded.int8 import Int8
from vidlatent.io.coded.packed import JOINED
from vidlatent.io.coded.planes import Planes
from vidlatent.io.coded.table import FORMS
from vidlatent.io.latent.header import LatentHeader, Source
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.io.picture.mastering import Mastering
from vidlatent.windows import Plan, TimeRule

READER_LINES = 40
DOCUMENT = ROOT / "docs" / "latent-format.md"


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `clip.latent` in the current folder."""
    monkeypatch.chdir(tmp_path)
    header = LatentHeader(
        *("toy", "", {"wide": "größe"}, Grid(4, 8), Plan(TimeRule(32, 1), TimeRule(15, 1))),
        source=Source("clip.mp4", 21, 512, 512),
        scale=(0.5, 1.0, 1.5, 2.0),
        shift=(0.0, 1.0, 2.0, 3.0),
    )
    with LatentWriter(tmp_path / "clip.latent", header, 4, 64, 64, "F32") as writer:
        writer.append(torch.randn(6, 4, 64, 64))
        writer.close(FrameClock(Fraction(1, 25), np.arange(21)))
    return tmp_path / "clip.latent"


def test_the_example_runs_with_safetensors_alone(clip: Path, capsys: pytest.CaptureFixture):
    example = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL).group(1)
    assert "vidlatent" not in example
    found: dict[str, object] = {}
    exec(example, found)
    with safe_open(clip, "pt") as file:
        wanted = (file.get_tensor("latents")[:5] - torch.arange(4).view(4, 1, 1)) * torch.tensor(
            [0.5, 1.0, 1.5, 2.0]
        ).view(4, 1, 1)
    assert torch.equal(found["for_diffusion"], wanted)
    assert "toy 1/25 torch.Size([5, 4, 64, 64])" in capsys.readouterr().out


def test_a_stranger_can_write_a_file_that_is_whole_and_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """From the document alone: its example is run as it stands, and what it made becomes a film."""
    monkeypatch.chdir(tmp_path)
    example = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[1]
    assert "import vidlatent" not in example
    made: dict[str, object] = {}
    exec(example, made)
    with vidlatent.open_latent("by-hand.latent") as reader:
        reader.verify()
        assert torch.equal(reader.read(0, 3), torch.from_numpy(made["latents"].astype(np.float32)))
    vidlatent.decode("by-hand.latent", "by-hand.mkv")
    with vidlatent.open_video("by-hand.mkv") as video:
        seconds = [frame.pts * video.info.time_base for frame in video.frames()]
        assert (video.info.width, video.info.height, video.info.tags["title"]) == (64, 48, "made by hand")
    assert seconds == [Fraction(n, 25) for n in range(9)]


@pytest.mark.parametrize("form", ["F32", Int8(), Planes("BF16"), Planes("F32")], ids=str)
def test_a_stranger_can_read_latents_in_any_form(tmp_path: Path, form: Form | str):
    """By the reader of the document, of at most forty lines, which needs no vidlatent."""
    example = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[2]
    assert "import vidlatent" not in example and example.count("\n") <= READER_LINES
    made: dict[str, object] = {}
    exec(example, made)
    header = LatentHeader(
        *("toy", "", {}, Grid(4, 8), Plan(TimeRule(32, 1), TimeRule(15, 1))),
        source=Source("clip.mp4", 137, 40, 16),
    )
    latents = torch.randn(2, 35, 3, 2, 5)
    with LatentWriter(tmp_path / "clip.latent", header, 3, 2, 5, form) as writer:
        writer.append(latents[0])
        writer.add_first_frame([latents[1]])
        writer.close(FrameClock(Fraction(1, 25), np.arange(137)))
    with vidlatent.open_latent(tmp_path / "clip.latent") as reader:
        for start, stop in [(0, 35), (3, 17), (16, 32), (34, 35)]:
            for part, read in (("latents", reader.read), ("first_frame", reader.read_first_frame)):
                found = made["read_latents"](tmp_path / "clip.latent", start, stop, part)
                assert torch.equal(found, read(start, stop)) and found.dtype == read(0, 1).dtype


def test_every_form_is_in_the_document():
    text = DOCUMENT.read_text()
    assert all(f"| `{name}` |" in text for name in FORMS)


def test_every_member_of_a_picture_is_in_the_document():
    text = DOCUMENT.read_text()
    for name in (*picture_of(8, 8), "reading", *picture_of(8, 8)["colour"], *asdict(Mastering())):
        assert f"`{name}`" in text or f'"{name}"' in text


def test_a_stranger_can_recompute_every_checksum(clip: Path):
    raw = clip.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    tensors = json.loads(raw[8:start])
    facts = tensors.pop("__metadata__")
    claimed = facts.pop("checksum")
    size, end = int(facts["block_bytes"]), tensors["checksums"]["data_offsets"][0]
    data, checksums = raw[start:][:end], raw[start:][end:]
    blocks = [data[i : i + size] for i in range(0, end, size)]
    assert checksums == b"".join(hashlib.sha256(block).digest() for block in blocks)
    places = {name: [t["dtype"], t["shape"], t["data_offsets"][0]] for name, t in tensors.items()}
    text = json.dumps([facts, places], sort_keys=True, separators=(",", ":"))
    assert claimed == hashlib.sha256(text.encode("ascii") + checksums).hexdigest()


def test_every_key_of_a_file_is_in_the_document(clip: Path):
    text = DOCUMENT.read_text()
    with safe_open(clip, "pt") as file:
        for key in (*file.metadata(), *file.keys()):
            assert f"`{key}`" in text


@pytest.mark.parametrize("trellis", [True, False])
@pytest.mark.parametrize("shape", [(18, 3, 4, 5), (26, 3, 4, 5), (2, 17, 1, 3), (2, 3, 27, 38)])
def test_a_stranger_reads_packed_latents_to_the_same_integers(
    tmp_path: Path, shape: tuple[int, ...], trellis: bool
):
    """By the document's reader of forty lines, which knows numpy and safetensors alone."""
    text = next(
        t for t in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL) if "read_packed" in t
    )
    assert "vidlatent" not in text and sum(bool(line.strip()) for line in text.splitlines()) <= 40
    made: dict = {}
    exec(text, made)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0)).cumsum(0)
    latents[-1, 0, 0, 0] = 400.0  # too far for any table
    form = pack(latents, 0.1, trellis=trellis)
    path = write(tmp_path / "packed.latent", latents, form)
    numbers, restored = made["read_packed"](path)
    assert np.array_equal(
        numbers, np.concatenate([form.fitted.quantise(part) for part in cut(latents, JOINED)])
    )
    assert torch.equal(torch.from_numpy(restored), all_of(path))
