"""What was exported comes back, and files of other programs become films."""

import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import trainer_caches as caches
from safetensors.torch import save_file

import vidlatent
from vidlatent.errors import BadInput, UsageError
from vidlatent.io.latent.reader import open_latent
from vidlatent.jobs.exchange.export import ExportOptions, export
from vidlatent.jobs.exchange.foreign import READERS
from vidlatent.jobs.exchange.importing import ImportOptions, import_files
from vidlatent.jobs.exchange.inspecting import inspect_foreign
from vidlatent.jobs.models import ModelChoice
from vidlatent.models import registry

NEAR = {"rtol": 1e-5, "atol": 1e-5}  # float32, normalised and back
EXPORTS = [  # word of the export, model, kind of data set, posterior
    ("musubi:wan", "wan-2.1", "all", "mode"),
    ("musubi:hv", "hunyuan-video", "all", "mode"),
    ("musubi:hv15", "hunyuan-video-1.5", "all", "mode"),
    ("musubi:k5", "hunyuan-video", "all", "mode"),
    ("musubi:fk", "flux-vae", "pictures", "mode"),
    ("ltx2", "ltx-2", "all", "mode"),
    ("ltx-video", "ltx-video-0.9.5", "all", "mode"),
    ("fastvideo:wan", "wan-2.1", "all", "mode"),
    ("finetrainers:wan", "wan-2.1", "all", "full"),
    ("finetrainers:cogvideox", "cogvideox-5b", "all", "full"),
    ("ai-toolkit:wan21", "wan-2.1", "whole", "mode"),
    ("simpletuner:wan", "wan-2.1", "whole", "mode"),
    ("comfyui", "wan-2.1", "all", "mode"),
    ("comfyui", "flux-vae", "all", "mode"),
    ("safetensors", "wan-2.1", "all", "mode"),
    ("webdataset", "wan-2.1", "all", "mode"),
]


def options(model: str | None = None, **said) -> ImportOptions:
    return ImportOptions(ModelChoice(model), **said)


@pytest.mark.parametrize(("word", "model", "kind", "posterior"), EXPORTS)
def test_every_export_comes_back_raw(cached, tmp_path, monkeypatch, word, model, kind, posterior):
    monkeypatch.setattr(
        "vidlatent.jobs.save.refuse_unknown_units", lambda spec: None
    )  # of LTX: here they are 1
    root = cached(model, kind, **({"posterior": posterior} if posterior == "full" else {}))
    paths = list(export(root, tmp_path / "out", word, ExportOptions()))
    files = [path for path in paths if path.suffix in (*READERS, ".tar")]
    told = [inspect_foreign(path) for path in files if path.suffix != ".tar"]
    made = list(import_files(files, tmp_path / "back", options(model, fps=Fraction(25))))
    expected = [latents for _, latents in caches.read_cache(root)]
    assert len(made) == len(expected)
    assert sum(facts["clips"] for facts in told) == len(expected) or word == "webdataset", (
        "inspect calls none of them weights"
    )
    found = [vidlatent.load_latents(one.target)[0] for one in made]
    for latents in expected:  # names of files have another order
        near = [one.shape == latents.shape and torch.allclose(one, latents, **NEAR) for one in found]
        assert sum(near) == 1
    with open_latent(made[0].target) as one:
        assert one.has_logvar == (posterior == "full")
        assert one.header.source.origin == ("video" if word == "webdataset" else "latents")


def test_a_musubi_file_needs_no_word_more(cached, tmp_path):
    (first, *_) = export(cached("wan-2.1"), tmp_path / "out", "musubi:wan", ExportOptions())
    (made,) = import_files([first], tmp_path / "a.latent")
    assert (made.model, made.fps, made.space) == ("wan-2.1", 16, "normalised")


def test_the_size_of_a_clip_is_without_its_padding(tmp_path):
    facts = {"architecture": "wan", "width": "60", "height": "32", "frame_count": "7"}
    path = tmp_path / "clip_00000-007_0060x0032_wan.safetensors"
    save_file({"latents_2x4x8_float32": torch.randn(16, 3, 4, 8)}, path, facts)
    (made,) = import_files([path], tmp_path / "a.latent")
    with open_latent(made.target) as latents:
        source, pad = latents.header.source, latents.header.pad
    assert (source.frames, source.width, source.height) == (7, 60, 32)
    assert (pad.frames, pad.rows, pad.columns) == (2, 0, 4)


def test_comfyui_keeps_latents_of_minimax_h3_normalised_and_those_of_cosmos_in_its_own_units(tmp_path):
    for name, channels in (("h3", 24), ("cosmos", 16)):
        tensors = {
            "latent_tensor": torch.zeros(1, channels, 7, 2, 2),
            "latent_format_version_0": torch.zeros(0),
        }
        save_file(tensors, tmp_path / f"{name}.latent")
    (made,) = import_files(
        [tmp_path / "h3.latent"], tmp_path / "a.latent", options("minimax-h3", fps=Fraction(24))
    )
    shift = registry.find("minimax-h3").shift
    torch.testing.assert_close(vidlatent.load_latents(made.target)[0, :, 0, 0, 0], torch.tensor(shift))
    cosmos = [tmp_path / "cosmos.latent"], tmp_path / "b.latent"
    with pytest.raises(UsageError, match=r"cosmos.latent: ComfyUI keeps latents of cosmos-cv8x8x8"):
        list(import_files(*cosmos, options("cosmos-cv8x8x8", fps=Fraction(24))))
    told = options("cosmos-cv8x8x8", fps=Fraction(24), space="raw")
    assert [one.space for one in import_files(*cosmos, told)] == ["raw"]


@pytest.mark.parametrize("suffix", ["npy", "pt", "safetensors"])
def test_a_tensor_alone_becomes_a_film(tmp_path, suffix):
    latents = torch.randn(768, 3, 4, 6).tanh()
    path = tmp_path / f"made.{suffix}"
    writers = {
        "npy": lambda: np.save(path, latents.numpy()),
        "pt": lambda: torch.save(latents, path),
        "safetensors": lambda: save_file({"z": latents}, path),
    }
    writers[suffix]()
    (made,) = import_files([path], tmp_path / "made.latent", options("toy", fps=Fraction(24)))
    assert vidlatent.decode(made.target, tmp_path / "a.mkv").frames == 9
    with open_latent(made.target) as one:
        assert one.header.source.file == path.name
        assert torch.equal(one.read(0, 3).transpose(0, 1), latents)


@pytest.mark.parametrize("model", ["ltx-video-0.9.8", "ltx-2"])
def test_packed_latents_of_the_ltx_trainers_may_be_of_either(tmp_path, monkeypatch, model):
    """The trainer of LTX-2 reads packed files, too, as it wrote them in its first days."""
    monkeypatch.setattr("vidlatent.jobs.save.refuse_unknown_units", lambda spec: None)
    packed, sides = torch.randn(12, 128), {"num_frames": 2, "height": 2, "width": 3}
    torch.save({"latents": packed, **sides, "fps": 24}, tmp_path / "a.pt")
    (made,) = import_files([tmp_path / "a.pt"], tmp_path / "a.latent", options(model))
    assert made.model == model
    assert torch.equal(vidlatent.load_latents(made.target)[0, :, 0, 0, 1], packed[1])


def test_a_file_that_only_is_called_like_our_record_says_nothing(tmp_path):
    (tmp_path / "export.json").write_text('{"of": "another program"}')
    torch.save(torch.randn(768, 1, 4, 4), tmp_path / "x.pt")
    (made,) = import_files([tmp_path / "x.pt"], tmp_path / "out", options("toy", fps=Fraction(24)))
    assert made.model == "toy"


def test_files_of_one_name_do_not_replace_each_other(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        torch.save(torch.randn(768, 1, 4, 4), tmp_path / name / "x.pt")
    files = [tmp_path / "a/x.pt", tmp_path / "b/x.pt"]
    made = list(import_files(files, tmp_path / "out", options("toy", fps=Fraction(24))))
    assert [one.target.name for one in made] == ["x.latent", "x-2.latent"]
    with pytest.raises(UsageError, match="is one file, for several clips"):
        list(import_files(files, tmp_path / "one.latent", options("toy", fps=Fraction(24))))
    with pytest.raises(UsageError, match="exists already"):
        list(import_files(files, tmp_path / "out", options("toy", fps=Fraction(24))))


class Code:
    """A pickle of this runs code."""

    def __reduce__(self):
        return (Path.touch, (Path("was-run"),))


def test_a_pickle_of_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pt").write_bytes(pickle.dumps({"latents": Code()}))
    torch.save({"latents": Code()}, tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        with pytest.raises(BadInput, match="holds more than tensors"):
            list(import_files([name], tmp_path / "out", options("toy")))
    assert not Path("was-run").exists()


@pytest.mark.parametrize(
    ("name", "content", "said", "words"),
    [
        ("a.pt", torch.zeros(16, 3, 4, 6), {"fps": 24}, "a tensor does not say whose latents it holds"),
        ("a.pt", torch.zeros(16, 3, 4, 6), {"model": "wan-2.1"}, "does not say how fast"),
        ("a.pt", torch.zeros(4, 3, 4, 6), {"model": "wan-2.1", "fps": 24}, "is not CTHW or TCHW with the 16"),
        ("a.pt", {"other": 1}, {"model": "wan-2.1"}, "neither a tensor nor a dict"),
        ("a.pt", {"latents": torch.zeros(8, 128), "num_frames": 1, "height": 2, "width": 3}, {}, "positions"),
        (
            "a.pt",
            {"latents": torch.zeros(128, 1, 2, 3), "fps": 24},
            {"model": "wan-2.1"},
            "ltx2 holds latents of",
        ),
        (
            "a_wan.safetensors",
            {"latents_2x4x4_bf16": torch.zeros(16, 2, 4, 4)},
            {"model": "flux-vae"},
            "not of flux",
        ),
        ("a_new.safetensors", {"latents_2x4x4_bf16": torch.zeros(16, 2, 4, 4)}, {}, "'new', unknown here"),
        ("a.safetensors", {"x": torch.zeros(1), "y": torch.zeros(1)}, {}, "no known layout"),
        ("a.mp4", b"", {}, "no file of latents, by its name"),
        ("a.npy", b"nonsense", {}, "not one array of numbers"),
        ("a.safetensors", b"nonsense", {}, "no safetensors file that is whole"),
    ],
)
def test_what_cannot_be_right_is_refused(tmp_path, name, content, said, words):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    model = said.pop("model", None) if (said := dict(said)) else None
    with pytest.raises((BadInput, UsageError), match=words):
        list(import_files([path], tmp_path / "out", options(model, **said)))
    assert not list(tmp_path.rglob("*.latent"))


def test_a_latent_of_ours_is_no_foreign_file(tmp_path):
    vidlatent.save_latents(tmp_path / "a.latent", torch.randn(768, 1, 4, 4), "toy", 24)
    with pytest.raises(BadInput, match="of vidlatent already"):
        list(import_files([tmp_path / "a.latent"], tmp_path / "b.latent"))
