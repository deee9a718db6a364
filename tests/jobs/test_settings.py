"""Settings of a model's own options: a file says what to decode with, and who chooses otherwise is heard."""

import numpy as np
import pytest
from helpers import ltx_files

import vidlatent
from vidlatent.cli.app import run
from vidlatent.io.latent.reader import open_latent
from vidlatent.jobs.cache.key import ModelIdentity
from vidlatent.jobs.measure.bench_options import BenchOptions, Loading, describe_settings, load_subjects
from vidlatent.models.options import Option


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return ltx_files.folder(tmp_path_factory.mktemp("ltx"), "ltx-video-0.9.5")


@pytest.fixture(scope="module")
def clip(tmp_path_factory, write_clip):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3), np.uint8)
    return write_clip(tmp_path_factory.mktemp("clip") / "clip", pixels)


@pytest.fixture(scope="module")
def plain(folder):
    return vidlatent.load_model(folder, device="cpu")


def pictures(folder) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.png"))]


def decoded(latent, folder, model=None) -> list[bytes]:
    vidlatent.decode(latent, f"{folder}/", model)
    return pictures(folder)


def test_a_file_says_what_to_decode_with(plain, clip, tmp_path):
    told = plain.choose(timestep=0.5)
    for name, model in (("plain", plain), ("told", told)):
        vidlatent.encode(clip, tmp_path / f"{name}.latent", model)
    with open_latent(tmp_path / "plain.latent") as first, open_latent(tmp_path / "told.latent") as second:
        assert (first.header.settings, first.header.format_minor) == ({}, 0)
        assert (second.header.settings, second.header.requires) == ({"timestep": 0.5}, ("settings",))
    as_told = decoded(tmp_path / "told.latent", tmp_path / "a", plain)
    assert as_told == decoded(tmp_path / "plain.latent", tmp_path / "b", told)
    as_usual = decoded(tmp_path / "plain.latent", tmp_path / "c", plain)
    assert (
        as_told != as_usual == decoded(tmp_path / "told.latent", tmp_path / "d", plain.choose(timestep=0.05))
    )


def test_the_command_line_sets_them(folder, clip, tmp_path):
    latent, film = tmp_path / "a.latent", tmp_path / "frames"
    model = ["--weights", str(folder), "--device", "cpu"]
    assert run(["encode", str(clip), "-o", str(latent), *model, "--set", "timestep=0.3"]) == 0
    with open_latent(latent) as file:
        assert file.header.settings == {"timestep": 0.3}
    assert (
        run(["decode", str(latent), "-o", f"{film}/", *model, "--set", "noise=0.025", "--set", "seed=4"]) == 0
    )
    assert len(pictures(film)) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "timestep"], "--set timestep: expected NAME=VALUE"),
        (["--set", "steps=3"], "steps: ltx-video-vae has no such option"),
        (["--set", "timestep=2"], "timestep=2: expected a number from 0 to 1"),
    ],
)
def test_what_cannot_be_set_is_said(folder, clip, tmp_path, capsys, words, said):
    command = ["encode", str(clip), "-o", str(tmp_path / "a.latent"), "--weights", str(folder)]
    assert run([*command, *words]) == 2
    assert said in capsys.readouterr().err


def test_a_cache_holds_latents_that_settings_of_the_decoder_do_not_change(
    folder, plain, clip, tmp_path, capsys
):
    command = ["cache", "run", str(clip), "-o", str(tmp_path / "cache"), "--weights", str(folder)]
    assert run([*command, "--set", "timestep=0.1"]) == 2
    assert "--set timestep: says how latents are decoded" in capsys.readouterr().err
    assert ModelIdentity.of(plain.choose(timestep=0.1)) == ModelIdentity.of(plain)


def test_what_changes_latents_is_in_the_key_of_a_cache(plain):
    option = Option("depth", 1, "how deep", most=9, latents=True)
    model = plain.choose()
    object.__setattr__(model.network.spec, "options", (*plain.spec.options, option))
    assert ModelIdentity.of(model.choose(depth=2)).facts["settings"] == {"depth": 2}
    assert "settings" not in ModelIdentity.of(model.choose(depth=1)).facts


def test_a_bench_reports_them(folder):
    how = Loading("cpu", settings={"noise": "0.5"})
    facts = describe_settings(BenchOptions(), load_subjects([str(folder)], [], how))
    assert facts["models"]["ltx-video-vae"]["settings"] == {"noise": 0.5}
    plain = describe_settings(BenchOptions(), load_subjects([str(folder)], [], Loading("cpu")))
    assert "settings" not in plain["models"]["ltx-video-vae"]


def test_models_show_says_what_may_be_set(capsys):
    assert run(["models", "show", "ltx-video-0.9.1", "--json"]) == 0
    assert '"name": "inject_noise"' in capsys.readouterr().out
