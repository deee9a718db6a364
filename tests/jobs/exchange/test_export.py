"""Every export is read by code that knows only the other tool's layout, and gives equal tensors."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import cache_clips as clips
from safetensors import safe_open
from safetensors.torch import load_file

from vidlatent.engine.model import Model
from vidlatent.engine.runtime import Runtime
from vidlatent.errors import UsageError
from vidlatent.io.latent.reader import open_latent
from vidlatent.jobs.cache.run import run
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.exchange.export import ExportOptions, export
from vidlatent.models.toy_vae import ToyVAE, spec_of

CHANNELS = 768
SCALE = tuple(1 + n / CHANNELS for n in range(CHANNELS))
SHIFT = tuple(n / 100 - 3 for n in range(CHANNELS))


@pytest.fixture(scope="module")
def cached(tmp_path_factory) -> Path:
    """Three clips, two of one name, with mean and logvar, of a model with a scale and a shift."""
    folder = tmp_path_factory.mktemp("export")
    clips.write_clip(folder / "videos/a/clip.avi", 1, frames=9)
    clips.write_clip(folder / "videos/b/clip.avi", 2, frames=5)
    clips.write_clip(folder / "videos/c.avi", 3, frames=9, size=(48, 32))
    table = folder / "videos/table.jsonl"
    rows = [{"path": name, "caption": f"this is {name}"} for name in ("a/clip.avi", "b/clip.avi", "c.avi")]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = replace(spec_of({}), scale=SCALE, shift=SHIFT)
    model = Model(ToyVAE(spec), Runtime.choose("cpu"))
    run([str(table)], folder / "cache", model, replace(clips.recipe(), posterior="full"), clips.ONE)
    return folder / "cache"


@pytest.fixture(scope="module")
def raw(cached) -> dict[str, torch.Tensor]:
    """[C, t, h, w] of every clip by its source, as open_latent reads them."""
    found = {}
    for row in clips.rows(cached):
        with open_latent(Store(cached).entry_path(row.key)) as latents:
            found[row.source] = latents.read(0, latents.frames).transpose(0, 1)
    return found


def normal(latents: torch.Tensor) -> torch.Tensor:
    scale, shift = (torch.tensor(values).view(-1, 1, 1, 1) for values in (SCALE, SHIFT))
    return (latents - shift) * scale


def by_shape_and_content(tensors: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    """The same tensors, in whatever order."""
    assert len(tensors) == len(expected)
    assert all(any(torch.equal(t, e) for e in expected) for t in tensors)


def test_comfyui(cached, raw, tmp_path):
    files = list(export(cached, tmp_path / "out", "comfyui"))
    assert all(f.suffix == ".latent" for f in files) and len({f.name for f in files}) == 3
    loaded = [load_file(f) for f in files]
    assert all(set(held) == {"latent_tensor", "latent_format_version_0"} for held in loaded)
    multiplier = 1.0  # of its loader where the marker is there
    by_shape_and_content([held["latent_tensor"][0] * multiplier for held in loaded], list(raw.values()))


@pytest.mark.parametrize(
    ("architecture", "full", "space"), [("hv", "hunyuan_video", "raw"), ("wan", "wan", "normal")]
)
def test_musubi(cached, raw, tmp_path, architecture, full, space):
    files = list(export(cached, tmp_path / "out", "musubi", ExportOptions(architecture=architecture)))
    wide = next(f for f in files if f.name.startswith("c_"))
    assert wide.name == f"c_00000-009_0048x0032_{architecture}.safetensors"
    with safe_open(wide, "pt") as file:
        assert file.metadata() == {
            "architecture": full,
            "width": "48",
            "height": "32",
            "format_version": "1.0.1",
            "frame_count": "9",
        }
        assert list(file.keys()) == ["latents_3x4x6_float32"]
        latents = file.get_tensor("latents_3x4x6_float32")
    expected = next(t for source, t in raw.items() if source.endswith("c.avi"))
    assert torch.equal(latents, expected if space == "raw" else normal(expected))


def test_ltx(cached, raw, tmp_path):
    items = [torch.load(f, weights_only=True) for f in export(cached, tmp_path / "out", "ltx")]
    assert all(set(item) == {"latents", "num_frames", "height", "width", "fps"} for item in items)
    for item in items:
        assert tuple(item["latents"].shape[1:]) == (item["num_frames"], item["height"], item["width"])
        assert item["fps"] == 25.0
    by_shape_and_content([item["latents"] for item in items], [normal(t) for t in raw.values()])


def test_fastvideo(cached, raw, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="FastVideo's layout needs pyarrow")
    (file,) = export(cached, tmp_path / "out", "fastvideo")
    rows = parquet.read_table(file).to_pylist()
    tensors = [
        torch.frombuffer(
            bytearray(row["vae_latent_bytes"]), dtype=getattr(torch, row["vae_latent_dtype"])
        ).view(row["vae_latent_shape"])
        for row in rows
    ]
    by_shape_and_content(tensors, list(raw.values()))
    assert {row["caption"] for row in rows} == {"this is a/clip.avi", "this is b/clip.avi", "this is c.avi"}
    assert [row["num_frames"] for row in rows] == [t.shape[1] for t in tensors]
    assert all(row["fps"] == 25 and row["media_type"] == "video" for row in rows)


def test_finetrainers(cached, raw, tmp_path):
    files = list(export(cached, tmp_path / "out", "finetrainers:wan"))
    assert [f.name for f in files] == ["latent-0.pt", "latent-1.pt", "latent-2.pt"]
    means = []
    for file in files:
        item = torch.load(file, weights_only=True)
        mean, logvar = item["latents"].chunk(2, dim=1)
        assert torch.equal(logvar, torch.full_like(logvar, -30))
        mean_shift, std = (item[name].view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std"))
        means.append(((mean - mean_shift) * std)[0])
    by_shape_and_content(means, [normal(t) for t in raw.values()])


def test_webdataset(cached, raw, tmp_path):
    files = list(export(cached, tmp_path / "out", "webdataset", ExportOptions(shard_bytes=1)))
    assert [f.name for f in files] == [f"shard-00000{n}.tar" for n in range(3)]
    for file in files:
        with tarfile.open(file) as tar:
            members = {Path(m.name).suffix: tar.extractfile(m).read() for m in tar}
        row = json.loads(members[".json"])
        assert (Store(cached).entry_path(row["key"])).read_bytes() == members[".latent"]
        assert row["facts"]["caption"].startswith("this is")
    again = list(export(cached, tmp_path / "again", "webdataset", ExportOptions(shard_bytes=1)))
    assert [f.read_bytes() for f in again] == [f.read_bytes() for f in files]


def test_safetensors_shards(cached, raw, tmp_path):
    *shards, index = export(cached, tmp_path / "out", "safetensors", ExportOptions(shard_bytes=1))
    where = json.loads(index.read_text())
    assert len(shards) == 3 and set(where["weight_map"].values()) == {s.name for s in shards}
    for name, file in where["weight_map"].items():
        source = where["clips"][name.removeprefix("latents/")]["source"]
        with safe_open(tmp_path / "out" / file, "pt") as tensors:
            assert torch.equal(tensors.get_tensor(name).transpose(0, 1), raw[source])


def test_the_space_can_be_told(cached, raw, tmp_path):
    files = list(export(cached, tmp_path / "out", "comfyui", ExportOptions(space="normalised")))
    found = [load_file(f)["latent_tensor"][0] for f in files]
    by_shape_and_content(found, [normal(t) for t in raw.values()])


def test_moments_cannot_be_had_of_a_cache_without_logvar(tmp_path):
    clips.cache(clips.write_clips(tmp_path / "videos", 1), tmp_path / "cache")
    with pytest.raises(UsageError, match=r"(?s)holds mean and logvar.*posterior full"):
        list(export(tmp_path / "cache", tmp_path / "out", "finetrainers:wan"))


@pytest.mark.parametrize(
    ("layout", "options", "words"),
    [
        ("nobody", {}, "tool nobody: unknown"),
        ("musubi", {}, "tool musubi: which of its architectures"),
        ("comfyui", {"space": "odd"}, "space odd"),
    ],
)
def test_what_cannot_be_meant_is_refused(cached, tmp_path, layout, options, words):
    with pytest.raises(UsageError, match=words):
        list(export(cached, tmp_path / "out", layout, ExportOptions(**options)))


def test_nothing_is_written_over(cached, tmp_path):
    (tmp_path / "precious").write_bytes(io.BytesIO(b"mine").getvalue())
    with pytest.raises(UsageError, match="is not empty"):
        list(export(cached, tmp_path, "comfyui"))
