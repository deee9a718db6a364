"""`--store packed` and `--measure` on the command line: what is said of what was measured."""

import json
from pathlib import Path

import pytest
from helpers.cache_clips import write_clip
from helpers.toy_sensitivities import known_sensitivities  # noqa: F401

from vidlatent.cli import app
from vidlatent.io.latent.reader import open_latent
from vidlatent.jobs.small.packing import BY_BOUND, BY_FILE, BY_SOURCE

TOY, PACKED = ("--model", "toy", "--device", "cpu"), ("--store", "packed", "--max-drop", "0.5dB")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("video") / "clip.avi", 0)


def encode(video: Path, target: Path, *words: str) -> Path:
    assert app.run(["encode", str(video), "-o", str(target), *TOY, *words]) == 0
    return target


def price(path: Path) -> dict:
    with open_latent(path) as latents:
        return latents.header.stored["price"]


def test_encode_packs_and_says_what_that_cost(video, tmp_path, capsys):
    target = encode(video, tmp_path / "clip.latent", *PACKED, "--json")
    told = capsys.readouterr()
    found = price(target)
    assert found["against"] == BY_SOURCE and 0 <= found["drop_db"] <= 0.5
    assert f"{found['drop_db']:g} dB {BY_SOURCE}; to measure it took" in told.err
    assert json.loads(told.out)["bytes"] == target.stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["clip.latent"]
    assert app.run(["inspect", str(target), "--verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stored"]["price"] == found


@pytest.mark.parametrize(
    ("encoding", "packing", "against"),
    [
        ((), ("--source",), BY_SOURCE),
        (("--measure",), (), BY_FILE),
        (("--measure", "--store", "bf16", "--pack"), (), BY_FILE),
        ((), (), BY_BOUND),
    ],
)
def test_repack_says_by_what_it_was_measured(video, tmp_path, capsys, encoding, packing, against):
    floats, target = encode(video, tmp_path / "floats.latent", *encoding), tmp_path / "small.latent"
    more = [*packing, *([str(video)] if packing else [])]
    assert app.run(["repack", str(floats), "-o", str(target), *PACKED, *more]) == 0
    assert f" dB {against}" in capsys.readouterr().err
    assert price(target)["against"] == against


def test_what_is_packed_is_not_packed_again(video, tmp_path, capsys):
    target = encode(video, tmp_path / "clip.latent", *PACKED)
    assert app.run(["repack", str(target), "-o", str(tmp_path / "again.latent"), *PACKED]) == 2
    assert "stored as packed, which has lost something already" in capsys.readouterr().err


def test_the_experts_step_is_used_as_it_is_said(video, tmp_path):
    target = encode(video, tmp_path / "clip.latent", "--store", "packed", "--step", "0.001")
    assert price(target)["k"] == 0.001 and "drop_db" in price(target)


def test_a_measured_clip_decodes_as_any_other(video, tmp_path, capsys):
    target = encode(video, tmp_path / "clip.latent", "--measure", "--store", "int8")
    assert "frames have a PSNR of" in capsys.readouterr().err
    assert app.run(["decode", str(target), "-o", str(tmp_path / "clip.mkv"), "--device", "cpu"]) == 0
