"""bin/train-pocket on a folder of its own: the loss falls, a run repeats itself, a model comes out."""

import json
import runpy
import shutil
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import warm
from helpers.paths import ROOT
from PIL import Image
from safetensors.torch import load_file

import vidlatent

SCRIPT = ROOT / "bin" / "train-pocket"
SMALL = [
    *("--steps", "60", "--cooldown", "30", "--log-every", "20"),
    *("--crop", "32", "--frames", "5", "--ema", "0.9", "--component-batches", "4"),
]
NARROW = {"stem": 48, "width": 64, "encoder_blocks": 1, "decoder_blocks": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The sample clip and a photograph made of waves."""
    folder = tmp_path_factory.mktemp("data")
    shutil.copy(ROOT / "assets" / "sample.mp4", folder)
    y, x = np.mgrid[:400, :500] / 20
    waves = np.stack([np.sin(x + y), np.cos(x * 1.7), np.sin(y * 2.1)], axis=-1)
    Image.fromarray((waves * 120 + 128).astype(np.uint8)).save(folder / "waves.png")
    return folder


def words_of(verb: str, folder: Path, data: Path, *more: str) -> list[str]:
    """A command line of the script."""
    places = {"--data": data, "--out": folder / "run", "--cache": data.parent / "frames"}
    words = [verb, *chain.from_iterable(places.items()), "--to", folder / "model", *more]
    return list(map(str, words))


def rows_of(text: str) -> list[dict]:
    """The rows among what the script prints."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@pytest.fixture
def train(capsys, monkeypatch):
    """Runs the script in this process, which has imported torch; returns the rows that it prints."""

    monkeypatch.syspath_prepend(SCRIPT.parent)
    monkeypatch.setattr("training.charts.SIDE", 160)  # to draw them takes longer than all steps here

    def run(*words) -> list[dict]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words_of(*words)])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return rows_of(capsys.readouterr().out)

    threads = torch.get_num_threads()  # which the script sets
    yield run
    torch.set_num_threads(threads)


def test_the_loss_falls_and_what_comes_out_is_a_model(train, data, tmp_path):
    long = ["--steps", "120", "--log-every", "40"]  # clips differ in difficulty: few would tell little
    rows = train("run", tmp_path, data, *SMALL, *long, "--config", json.dumps(NARROW))
    assert [row["step"] for row in rows] == [40, 80, 120]
    assert rows[-1]["loss"] < rows[0]["loss"]
    warm.run([SCRIPT, *words_of("export", tmp_path, data)], check=True)
    config = vidlatent.load_model(str(tmp_path / "model")).spec.config
    assert config["width"] == NARROW["width"]
    assert min(config["limits"]) > 0
    *clips, mean = train("evaluate", tmp_path, data, "--side", "96")
    assert [row["clip"] for row in clips] == ["sample.mp4"]
    assert mean["psnr"] > 20
    assert mean["beat"] == pytest.approx(max(mean["places"]) / min(mean["places"]), abs=0.01)
    assert 0 < mean["moving"] < mean["moving_error"] < 1  # what moves is harder
    assert mean["still_psnr"] > 20


def test_a_run_that_was_stopped_ends_like_one_that_was_not(train, data, tmp_path):
    options = [*SMALL, "--config", json.dumps(NARROW), "--cooldown", "1"]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    train("run", whole, data, *options, "--steps", "8")
    train("run", halves, data, *options, "--steps", "8", "--stop-after", "4")
    train("run", halves, data, *options, "--steps", "8", "--workers", "1")
    for folder in (whole, halves):
        train("export", folder, data)
    first, second = (load_file(folder / "model" / "model.safetensors") for folder in (whole, halves))
    assert all((first[key] == second[key]).all() for key in first)


@pytest.mark.slow
def test_several_runs_are_exported_as_their_mean(train, data, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for seed, folder in enumerate(folders):
        options = [*SMALL, "--steps", "1", "--log-every", "1", "--seed", seed]
        train("run", folder, data, *options, "--config", json.dumps(NARROW))
    train("export", folders[0], data, "--also", folders[1] / "run")
    made = load_file(folders[0] / "model" / "model.safetensors")
    runs = [torch.load(folder / "run" / "checkpoint.pt", weights_only=True)["average"] for folder in folders]
    for key, value in made.items():
        assert torch.equal(value, ((runs[0][key] + runs[1][key]) / 2).half())


@pytest.mark.slow
def test_training_goes_on_from_an_exported_model_in_a_larger_network(train, data, tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    train("run", small, data, *SMALL, "--config", json.dumps(NARROW))
    train("export", small, data)
    options = [*SMALL, "--start", small / "model", "--steps", "62", "--log-every", "1"]
    still = ["--lr", "0", "--path-lr", "0", "--alex-weight", "1", "--crop", "48"]
    more = {"encoder_blocks": 2, "decoder_blocks": 3}
    rows = train("run", large, data, *options, *still, "--config", json.dumps(more))
    train("export", large, data)
    assert [row["step"] for row in rows] == [61, 62]
    log = [json.loads(line)["step"] for line in (large / "run" / "log.jsonl").read_text().splitlines()]
    assert log == [20, 40, 60, 61, 62]
    before, after = (vidlatent.load_model(str(folder / "model")) for folder in (small, large))
    assert len(after.network.decoder.blocks) == 3
    video = torch.rand(1, 3, 5, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = before.encode(video).mean
    assert torch.equal(after.encode(video).mean, latents)
    assert torch.equal(after.decode(latents), before.decode(latents))
