"""Exports for trainers, read by code that knows only their layouts: paths, pairs, values."""

import base64
import hashlib
import json
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from helpers import trainer_caches as caches
from helpers.cache_clips import write_clip
from safetensors import safe_open

from vidlatent.errors import BadInput, UsageError
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.exchange.comfyui import choose_space
from vidlatent.jobs.exchange.export import ExportOptions, export
from vidlatent.jobs.exchange.needs import find_needs
from vidlatent.jobs.exchange.vaes import Vae
from vidlatent.models import registry


def normal(model: str, latents: torch.Tensor) -> torch.Tensor:
    return caches.normalise(latents, caches.pooling_model(model))


def by_caption(root: Path) -> dict[str, list]:
    """The clips of a cache by their captions."""
    found: dict[str, list] = {}
    for row, latents in caches.read_cache(root):
        found.setdefault(row.facts["caption"], []).append((row, latents))
    return found


@pytest.mark.parametrize(("tool", "model"), [("ltx2", "ltx-2"), ("ltx-video", "ltx-video-0.9.8")])
def test_ltx_latents_pair_with_conditions_of_the_same_path(cached, tmp_path, tool, model):
    root = cached(model)
    files = set(export(root, tmp_path, tool))
    latents = tmp_path / ".precomputed" / "latents"
    rows = [json.loads(line) for line in (tmp_path / "dataset.jsonl").read_text().splitlines()]
    assert {str(PurePosixPath(row["media_path"]).parent) for row in rows} == {".", "a", "b"}
    conditions = {str(PurePosixPath(row["media_path"]).with_suffix(".pt")): row["caption"] for row in rows}
    assert len(conditions) == len(files) == 7
    assert files == {latents / name for name in conditions}
    known = by_caption(root)
    for name, caption in conditions.items():
        item = torch.load(latents / name, weights_only=True)
        assert set(item) == {"latents", "num_frames", "height", "width", "fps"} and item["fps"] == 25.0
        f, h, w = item["num_frames"], item["height"], item["width"]
        held = item["latents"]
        if tool == "ltx-video":
            assert held.shape == (f * h * w, 128)
            held = held.T.unflatten(1, (f, h, w))
        assert held.shape == (128, f, h, w)
        assert any(torch.equal(held, normal(model, raw)) for _, raw in known[caption])


@pytest.mark.parametrize("tool", ["ltx2", "ltx-video"])
def test_no_file_for_the_ltx_trainers_has_a_name_that_they_pair_otherwise(tmp_path, tool):
    """A file latent_X.pt pairs with condition_X.pt, which nobody makes: the clip was left out in silence."""
    model = {"ltx2": "ltx-2", "ltx-video": "ltx-video-0.9.8"}[tool]
    video = caches.clip(write_clip(tmp_path / "videos/latent_a.avi", 1, frames=9, size=(64, 32)), "a room")
    root = caches.make_cache(tmp_path / "cache", caches.pooling_model(model), [video])
    (file,) = export(root, tmp_path / "out", tool)
    assert file.name == "clip-latent_a.pt"
    said = json.loads((tmp_path / "out/dataset.jsonl").read_text())
    assert said["media_path"] == "clip-latent_a.avi"


def test_paths_begin_where_they_are_told_to(cached, tmp_path):
    root = cached("ltx-2")
    (row, _), *_ = caches.read_cache(root)
    above = Path(row.source).parents[2]
    files = list(export(root, tmp_path, "ltx2", ExportOptions(relative_to=above)))
    assert tmp_path / ".precomputed/latents/videos/a/clip.pt" in files


FINETRAINERS = {
    "wan": "wan-2.1",
    "ltx": "ltx-video-0.9.8",
    "hunyuan": "hunyuan-video",
    "cogvideox": "cogvideox-5b",
}


@pytest.mark.parametrize("arch", FINETRAINERS)
def test_finetrainers(cached, tmp_path, arch):
    model = FINETRAINERS[arch]
    root = cached(model, posterior="full")
    list(export(root, tmp_path, f"finetrainers:{arch}"))
    folder = tmp_path / "finetrainers-precomputed-data"
    assert {p.name for p in folder.iterdir()} == {f"latent-{i}.pt" for i in range(7)}
    spec, known = caches.pooling_model(model).spec, by_caption(root)
    more = {
        "wan": {"latents_mean", "latents_std"},
        "ltx": {"num_frames", "height", "width", "latents_mean", "latents_std"},
    }
    for i, line in enumerate((tmp_path / "clips.jsonl").read_text().splitlines()):
        said = json.loads(line)
        assert (said["number"], said["condition"]) == (i, f"condition-{i}.pt")
        item = torch.load(folder / said["latent"], weights_only=True)
        assert set(item) == {"latents"} | more.get(arch, set())
        moments = item["latents"].transpose(1, 2) if arch == "cogvideox" else item["latents"]
        mean, logvar = moments.chunk(2, dim=1)
        assert torch.equal(logvar, -1 - mean.abs())
        assert any(torch.equal(mean[0], raw) for _, raw in known[said["caption"]])
        if arch == "wan":
            assert item["latents_std"].shape == (16,)
            torch.testing.assert_close(item["latents_std"], torch.tensor(spec.scale))
        if arch == "ltx":
            torch.testing.assert_close(item["latents_std"], 1 / torch.tensor(spec.scale).expand(128))
            assert tuple(mean.shape[2:]) == (item["num_frames"], item["height"], item["width"])


def test_finetrainers_needs_the_logvar(cached, tmp_path):
    with pytest.raises(UsageError, match=r"(?s)holds mean and logvar.*posterior full"):
        list(export(cached("wan-2.1"), tmp_path / "out", "finetrainers"))
    assert not (tmp_path / "out").exists()


def read_parquet(folder: Path) -> list[dict]:
    parquet = pytest.importorskip("pyarrow.parquet", reason="FastVideo's layout needs pyarrow")
    return [row for file in sorted(folder.rglob("*.parquet")) for row in parquet.read_table(file).to_pylist()]


def as_float32(row: dict, name: str) -> torch.Tensor:
    """Bytes are always read as float32, whatever the dtype says."""
    return torch.from_numpy(
        np.frombuffer(row[f"{name}_bytes"], np.float32).reshape(row[f"{name}_shape"]).copy()
    )


def test_fastvideo_with_text_embeddings(cached, tmp_path):
    root = cached("wan-2.1", store="bf16")
    texts = tmp_path / "texts"
    texts.mkdir()
    torch.manual_seed(0)
    for n, (row, _) in enumerate(caches.read_cache(root)):
        text = torch.randn(2 + n, 4096)
        if row.span[0] is None:
            np.save(texts / f"{Path(row.source).stem}.npy", text.numpy())
        else:
            torch.save({"text": text.bfloat16()}, texts / f"{Path(row.source).stem}.pt")
    list(export(root, tmp_path / "out", "fastvideo:wan", ExportOptions(text_embeddings=texts)))
    rows, known = read_parquet(tmp_path / "out"), by_caption(root)
    assert len(rows) == len({row["id"] for row in rows}) == 7
    for row in rows:
        latents = as_float32(row, "vae_latent")
        assert any(torch.equal(latents, raw.float()) for _, raw in known[row["caption"].strip()])
        assert row["num_frames"] == latents.shape[1] and row["fps"] == 25 and row["media_type"] == "video"
        text = as_float32(row, "text_embedding")
        assert text.shape[1] == 4096 and text.abs().sum() > 0


def test_fastvideo_without_text_says_that_it_cannot_be_trained_on(cached, tmp_path):
    list(export(cached("wan-2.1"), tmp_path, "fastvideo:wan"))
    assert "cannot be trained on" in (tmp_path / "README.md").read_text()
    assert all(row["text_embedding_bytes"] == b"" for row in read_parquet(tmp_path))


class Malice:
    """A pickle that runs code when it is loaded."""

    def __reduce__(self):
        return print, ("this code was run",)


@pytest.mark.parametrize(
    ("save", "words"),
    [
        (lambda path: torch.save(torch.zeros(3, 768), path), r"\[3, 768\], expected floats \[L, 4096\]"),
        (lambda path: torch.save(torch.full((3, 4096), torch.nan), path), "holds NaN"),
        (lambda path: torch.save(Malice(), path), "not one tensor of numbers"),
        (lambda path: path.write_bytes(b"nothing"), "not one tensor of numbers"),
        (lambda path: torch.save({"a": torch.zeros(1, 1), "b": torch.zeros(1, 1)}, path), "a dict"),
    ],
)
def test_embeddings_of_another_kind_are_refused(cached, tmp_path, save, words, capsys):
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in ("clip", "c.d"):
        save(texts / f"{name}.pt")
    with pytest.raises(BadInput, match=words):
        list(
            export(
                cached("wan-2.1", "whole"),
                tmp_path / "out",
                "fastvideo:wan",
                ExportOptions(text_embeddings=texts),
            )
        )
    assert not (tmp_path / "out").exists() and "this code was run" not in capsys.readouterr().out


def test_a_clip_without_its_embedding_is_named(cached, tmp_path):
    (tmp_path / "texts").mkdir()
    options = ExportOptions(text_embeddings=tmp_path / "texts")
    with pytest.raises(UsageError, match="holds no embedding of clip"):
        list(export(cached("wan-2.1", "whole"), tmp_path / "out", "fastvideo:wan", options))


def ai_toolkit_name(video: str, size: tuple[int, int], cut: tuple[int, int], frames: int, space: str) -> str:
    """Where ai-toolkit looks for the latents of a video of `size` that its bucket cuts to `cut`."""
    scale = max(cut[0] / size[0], cut[1] / size[1])
    scaled = [int(np.ceil(side * scale)) for side in size]
    facts = {
        "filename": PurePosixPath(video).name,
        "scale_to_width": scaled[0],
        "scale_to_height": scaled[1],
        "crop_x": int((scaled[0] - cut[0]) / 2),
        "crop_y": int((scaled[1] - cut[1]) / 2),
        "crop_width": cut[0],
        "crop_height": cut[1],
        "latent_space_version": space,
        "latent_version": 1,
    }
    if frames > 1:
        facts["num_frames"] = frames
    digest = hashlib.md5(json.dumps(facts, sort_keys=True).encode()).digest()
    word = base64.urlsafe_b64encode(digest).decode().replace("=", "")
    return str(
        PurePosixPath(video).parent / "_latent_cache" / f"{PurePosixPath(video).stem}_{word}.safetensors"
    )


@pytest.mark.parametrize("cut", [None, (48, 32)])
def test_ai_toolkit(cached, tmp_path, cut):
    read = {"read": ReadOptions(size=cut, fit="crop")} if cut else {}
    root = cached("wan-2.1", "whole", **read)
    files = set(export(root, tmp_path, "ai-toolkit:wan21"))
    sizes = {"a/clip.avi": (64, 32), "b/clip.avi": (64, 32), "b/c.d.avi": (32, 64)}
    for row, raw in caches.read_cache(root):
        video = "/".join(row.source.split("/")[-2:])
        size = sizes[video]
        path = tmp_path / ai_toolkit_name(video, size, cut or size, row.frames, "wan21")
        files.remove(path)
        with safe_open(path, "pt") as file:
            assert torch.equal(file.get_tensor("latent"), normal("wan-2.1", raw))
            frames = file.get_tensor("num_frames")
        assert frames.dtype == torch.int32 and frames.dim() == 0 and frames == row.frames
        assert (tmp_path / video).with_suffix(".txt").read_text().strip() == row.facts["caption"]
    assert not files


@pytest.mark.parametrize(
    ("arch", "model", "kind", "space"),
    [
        ("ltx2", "ltx-2", "whole", "ltx2_v2"),
        ("ltx2.3", "ltx-2", "whole", "ltx2.3_v2"),
        ("ltx2.5", "ltx-2", "whole", "ltx2.5_v2"),
        ("flux", "flux-vae", "pictures", "flux1"),
    ],
)
def test_ai_toolkit_calls_some_latents_otherwise_than_the_architecture(
    cached, tmp_path, arch, model, kind, space
):
    """Files of LTX-2.3 were named by "ltx2.3", and ai-toolkit, which looks for "ltx2.3_v2", found none."""
    root = cached(model, kind)
    files = set(export(root, tmp_path, f"ai-toolkit:{arch}", ExportOptions(checked=True)))
    wanted = set()
    for row, _ in caches.read_cache(root):
        video, size = "/".join(row.source.split("/")[-2:]), (row.width, row.height)
        wanted.add(tmp_path / ai_toolkit_name(video, size, size, row.frames, space))
    assert files == wanted


@pytest.mark.parametrize("arch", ["qwen_image", "flux"])
def test_ai_toolkit_makes_buckets_of_pictures_in_steps_of_32(arch):
    assert find_needs(f"ai-toolkit:{arch}")[2].side == 32


def test_simpletuner(cached, tmp_path):
    root = cached("wan-2.1", "whole")
    files = set(export(root, tmp_path, "simpletuner"))
    for row, raw in caches.read_cache(root):
        source = PurePosixPath(row.source)
        name = hashlib.sha256(source.stem.encode()).hexdigest()
        path = tmp_path / "vae" / source.parent.name / f"{name}.pt"
        files.remove(path)
        assert torch.equal(torch.load(path, weights_only=True), normal("wan-2.1", raw))
        caption = tmp_path / "captions" / source.parent.name / f"{source.stem}.txt"
        assert caption.read_text().strip() == row.facts["caption"]
    assert not files


@pytest.mark.parametrize("tool", ["ai-toolkit:wan21", "simpletuner:wan"])
def test_trainers_with_one_cache_for_each_file_take_no_spans(cached, tmp_path, tool):
    with pytest.raises(UsageError, match=r"long_take.avi: the clip is a span of its file"):
        list(export(cached("wan-2.1"), tmp_path / "out", tool))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("model", "kind", "space", "axes"),
    [
        ("wan-2.1", "all", "raw", "video"),
        ("ltx-2", "all", "norm", "video"),
        ("flux-vae", "all", "raw", "image"),
    ],
)
def test_comfyui(cached, tmp_path, model, kind, space, axes):
    root = cached(model, kind)
    files = list(export(root, tmp_path, "comfyui"))
    expected = [normal(model, raw) if space == "norm" else raw for _, raw in caches.read_cache(root)]
    expected = [raw.transpose(0, 1) if axes == "image" else raw[None] for raw in expected]
    assert len(files) == len(expected) == len({file.name for file in files})
    for file in files:
        with safe_open(file, "pt") as held:
            assert set(held.keys()) == {"latent_tensor", "latent_format_version_0"}
            latents = held.get_tensor("latent_tensor")
        assert any(torch.equal(latents, wanted) for wanted in expected)


def test_comfyui_is_given_latents_as_its_own_vae_node_gives_them():
    normalised = {
        name
        for name in registry.names()
        if choose_space(Vae.of_spec(registry.find(name))) == "normalised" and name[:2] not in ("lt", "ta")
    }
    assert normalised == {"minimax-h3"}, "beside LTX, and the tiny decoders for it"


def test_latents_of_cosmos_are_refused_for_comfyui_unless_their_units_are_told(cached, tmp_path):
    root = cached("cosmos-cv8x8x8", "whole")
    with pytest.raises(UsageError, match="normalised by numbers of its own weight file"):
        list(export(root, tmp_path, "comfyui"))
    assert not any(tmp_path.iterdir())
    assert len(list(export(root, tmp_path, "comfyui", ExportOptions(space="raw")))) == 3
