"""Exports for musubi-tuner, read as its data set reads them: names, pairs, buckets, tensors."""

import json
import os
import tomllib
from collections import defaultdict
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from helpers import trainer_caches as caches
from helpers.cache_clips import write_clip
from safetensors import safe_open

from vidlatent.errors import UsageError
from vidlatent.jobs.cache.manifest import open_manifest
from vidlatent.jobs.exchange.export import ExportOptions, export

VIDEO = {  # architecture → the model whose latents it trains on, its name in full, the space on its disk
    "hv": ("hunyuan-video", "hunyuan_video", "raw"),
    "wan": ("wan-2.1", "wan", "norm"),
    "hv15": ("hunyuan-video-1.5", "hunyuan_video_1_5", "raw"),
    "k5": ("hunyuan-video", "kandinsky5", "norm"),
}
IMAGE = {  # …, and whether a picture's tensor has a time axis
    "qi": ("qwen-image", "qwen_image", "norm", True),
    "fk": ("flux-vae", "flux_kontext", "norm", False),
    "zi": ("flux-vae", "z_image", "raw", False),
}


@dataclass(frozen=True)
class Item:
    """What musubi-tuner knows of a latent file by its name."""

    stem: str
    start: int
    frames: int
    size: tuple[int, int]
    file: Path


def read_items(folder: Path, arch: str, still: bool = False) -> list[Item]:
    """Every latent file: its name is split at underscores, and read from its end."""
    items = []
    for file in sorted(folder.glob(f"*_{arch}.safetensors")):
        *rest, size, last = file.name.removesuffix(".safetensors").split("_")
        assert last == arch
        width, height = map(int, size.split("x"))
        start, frames = (0, 1) if still else map(int, rest.pop().split("-"))
        items.append(Item("_".join(rest), start, frames, (width, height), file))
    return items


def text_files(folder: Path, arch: str, kind: str = "video") -> dict[str, str]:
    """What its script for captions would write, by file name: the caption of each row."""
    rows = [json.loads(line) for line in (folder / f"{kind}s.jsonl").read_text().splitlines()]
    names = [os.path.splitext(os.path.basename(row[f"{kind}_path"]))[0] for row in rows]
    assert len(set(names)) == len(names), "a text file would be written twice"
    return {f"{name}_{arch}_te.safetensors": row["caption"] for name, row in zip(names, rows, strict=True)}


def bucket(size: tuple[int, int], dataset: dict) -> tuple[int, int]:
    """The bucket of a size, where small pictures are not enlarged and none is larger than `resolution`."""
    general = dataset["general"]
    assert general["enable_bucket"] and general["bucket_no_upscale"]
    assert size[0] * size[1] <= general["resolution"][0] * general["resolution"][1]
    return size[0] // 16 * 16, size[1] // 16 * 16


def only_tensor(item: Item, name: str) -> torch.Tensor:
    """The tensor whose key is NAME_FxHxW_dtype; all keys of this kind must end so."""
    with safe_open(item.file, "pt") as file:
        found = {key.rsplit("_", 2)[0]: key for key in file.keys() if key.startswith("latents_")}  # noqa: SIM118
        tensor = file.get_tensor(found[name])
        f, h, w = map(int, found[name].rsplit("_", 2)[1].split("x"))
    assert (h, w) == tuple(tensor.shape[-2:]) and f == (tensor.shape[1] if tensor.dim() == 4 else 1)
    assert found[name].endswith(f"_{str(tensor.dtype).removeprefix('torch.')}")
    return tensor


def first_frame(row) -> int:
    return round(float(eval(row.span[0] or "0")) * 25)  # a fraction of seconds as text


@pytest.mark.parametrize("arch", VIDEO)
def test_every_clip_pairs_with_the_text_of_its_own_caption_and_holds_its_own_latents(cached, tmp_path, arch):
    model, full, space = VIDEO[arch]
    root = cached(model)
    list(export(root, tmp_path, f"musubi:{arch}"))
    items, texts = read_items(tmp_path, arch), text_files(tmp_path, arch)
    known = caches.read_cache(root)
    assert len(items) == len(known) == 7
    for item in items:
        caption = texts[f"{item.stem}_{arch}_te.safetensors"]
        (found,) = (
            (row, latents)
            for row, latents in known
            if (row.facts["caption"], first_frame(row), row.frames) == (caption, item.start, item.frames)
        )
        row, latents = found
        assert item.size == (row.width, row.height)
        expected = latents if space == "raw" else caches.normalise(latents, caches.pooling_model(model))
        assert torch.equal(only_tensor(item, "latents"), expected)
        with safe_open(item.file, "pt") as file:
            assert file.metadata() == {
                "architecture": full,
                "width": str(row.width),
                "height": str(row.height),
                "format_version": "1.0.1",
                "frame_count": str(row.frames),
            }


def test_spans_of_one_file_follow_its_own_convention(cached, tmp_path):
    list(export(cached("wan-2.1"), tmp_path, "musubi", ExportOptions(architecture="wan")))
    spans = [item for item in read_items(tmp_path, "wan") if item.stem.startswith("long_take")]
    assert [item.start for item in sorted(spans, key=lambda item: item.start)] == [0, 9, 18, 27]
    rain = {item.file.name for item in spans if item.start < 18}
    assert rain == {f"long_take_{start:05d}-009_0064x0032_wan.safetensors" for start in (0, 9)}


@pytest.mark.parametrize("arch", IMAGE)
def test_pictures_have_names_and_tensors_of_the_image_layout(cached, tmp_path, arch):
    model, full, space, timed = IMAGE[arch]
    root = cached(model, "pictures")
    list(export(root, tmp_path, f"musubi:{arch}"))
    items, texts = read_items(tmp_path, arch, still=True), text_files(tmp_path, arch, "image")
    captions = {texts[f"{item.stem}_{arch}_te.safetensors"]: item for item in items}
    assert len(captions) == 3
    for row, latents in caches.read_cache(root):
        expected = latents if space == "raw" else caches.normalise(latents, caches.pooling_model(model))
        item = captions[row.facts["caption"]]
        assert torch.equal(only_tensor(item, "latents"), expected if timed else expected[:, 0])
        with safe_open(item.file, "pt") as file:
            assert file.metadata()["architecture"] == full


def test_kandinsky_gets_the_first_and_the_last_latent(cached, tmp_path):
    list(export(cached("hunyuan-video"), tmp_path, "musubi:k5"))
    for item in read_items(tmp_path, "k5"):
        ends, latents = only_tensor(item, "latents_image"), only_tensor(item, "latents")
        assert torch.equal(ends, torch.stack([latents[:, 0], latents[:, -1]], dim=1))


def test_clips_that_fall_into_one_bucket_have_one_shape(cached, tmp_path):
    list(export(cached("wan-2.1"), tmp_path, "musubi:wan"))
    dataset = tomllib.loads((tmp_path / "dataset.toml").read_text())
    (said,) = dataset["datasets"]
    assert (tmp_path / said["video_jsonl_file"]).exists() and said["cache_directory"] == "."
    shapes = defaultdict(set)
    for item in read_items(tmp_path, "wan"):
        shapes[bucket(item.size, dataset), item.frames].add(only_tensor(item, "latents").shape)
    assert len(shapes) == 3 and all(len(found) == 1 for found in shapes.values())


def test_image_architectures_take_no_films(cached, tmp_path):
    with pytest.raises(UsageError, match=r"(?s)has 9 frames, and musubi:qi takes single pictures.*frames 1"):
        list(export(cached("qwen-image"), tmp_path / "out", "musubi:qi"))
    assert not (tmp_path / "out").exists()


def test_without_an_architecture_it_is_asked_for(cached, tmp_path):
    with pytest.raises(UsageError, match=r"(?s)tool musubi: which of its architectures.*musubi:hv.*hv, k5"):
        list(export(cached("hunyuan-video"), tmp_path / "out", "musubi"))
    with pytest.raises(UsageError, match=r"(?s)architecture fp: unknown to musubi.*one of hv, wan"):
        list(export(cached("hunyuan-video"), tmp_path / "out", "musubi:fp"))
    assert not (tmp_path / "out").exists()


def test_wan_image_to_video_gets_the_mask_and_the_first_frame(cached, tmp_path):
    """[20, F, H, W]: four channels of mask, ones where the picture is known, and the latents, normalised."""
    root, model = cached("wan-2.1", "whole", first_frame=True), caches.pooling_model("wan-2.1")
    list(export(root, tmp_path, "musubi:wan"))
    captions = text_files(tmp_path, "wan")
    stored = {}
    for row in open_manifest(root).present_rows():
        with open_manifest(root).place(row).open() as latents:
            stored[row.facts["caption"]] = latents.read_first_frame(0, latents.frames).transpose(0, 1)
    for item in read_items(tmp_path, "wan"):
        fed = only_tensor(item, "latents_image")
        assert fed.shape[0] == 20 and fed.shape[1:] == only_tensor(item, "latents").shape[1:]
        assert (fed[:4, 0] == 1).all() and (fed[:4, 1:] == 0).all()
        first = stored[captions[f"{item.stem}_wan_te.safetensors"]]
        assert torch.equal(fed[4:], caches.normalise(first, model))


def test_without_first_frames_there_is_no_image_latent(cached, tmp_path):
    list(export(cached("wan-2.1", "whole"), tmp_path, "musubi:wan"))
    for item in read_items(tmp_path, "wan"):
        with safe_open(item.file, "pt") as file:
            assert len(list(file.keys())) == 1


def test_two_clips_of_one_name_are_refused(tmp_path):
    """Two rows of a table that mean the same frames, one by their number and one by an end, say."""
    video = write_clip(tmp_path / "v.avi", 1, frames=20)
    one = caches.clip(video, "rain", 9, 9)
    other = replace(one, end=Fraction(18, 25))
    root = caches.make_cache(tmp_path / "cache", caches.pooling_model("wan-2.1"), [one, other])
    with pytest.raises(UsageError, match=r"v_00009-009_0032x0032_wan\.safetensors, and so would one of"):
        list(export(root, tmp_path / "out", "musubi:wan"))
    assert not (tmp_path / "out").exists()
