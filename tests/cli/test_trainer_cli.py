"""From a folder of videos to a trainer in two commands: `cache --for`, `cache export --for`."""

import json
import os
from pathlib import Path

import pytest
from helpers import cache_clips as clips
from helpers.cases import compact

from vidlatent.io.latent.reader import open_latent
from vidlatent.jobs.cache.manifest import open_manifest
from vidlatent.jobs.cache.store import Store


@pytest.fixture(scope="module")
def wan(tmp_path_factory) -> Path:
    """A folder with the VAE of Wan 2.1, in small."""
    return compact("wan21_tiled", tmp_path_factory.mktemp("weights")).folder


@pytest.fixture
def videos(tmp_path) -> Path:
    """Clips of odd sizes and lengths with captions beside them, two of one name."""
    folder = tmp_path / "videos"
    for name, frames, size in (("a/clip", 20, (50, 34)), ("b/clip", 15, (32, 32)), ("long", 45, (48, 32))):
        clips.write_clip(folder / f"{name}.avi", len(name), frames=frames, size=size)
        (folder / f"{name}.txt").write_text(f"this is {name}\n")
    return folder


def pair(folder: Path, arch: str) -> list[tuple[str, str]]:
    """Every latent file, and the caption of the text file that musubi-tuner looks for beside it."""
    rows = [json.loads(line) for line in (folder / "videos.jsonl").read_text().splitlines()]
    texts = {os.path.splitext(os.path.basename(row["video_path"]))[0]: row["caption"] for row in rows}
    names = sorted(path.stem for path in folder.glob(f"*_{arch}.safetensors"))
    return [(name, texts[name.rsplit("_", 3)[0]]) for name in names]


@pytest.mark.parametrize("more", [(), ("--chunk", "1")])
def test_a_folder_with_captions_is_paired_without_anything_written_by_hand(
    vidlatent, videos, wan, tmp_path, more
):
    root, out = tmp_path / "cache", tmp_path / "out"
    run = ("-o", root, "--weights", wan, "--device", "cpu", "--workers", 1)
    made = vidlatent("cache", videos, *run, "--for", "musubi:wan", "--first-frame", *more)
    assert made.code == 0, made.err
    result = vidlatent("cache", "export", root, "-o", out, "--for", "musubi:wan")
    assert result.code == 0, result.err
    rows = open_manifest(root).present_rows()
    pairs = pair(out, "wan")
    assert len(pairs) == len(rows) >= 3 and len(pairs) == len(result.out.split())
    assert sorted(caption for _, caption in pairs) == sorted(row.facts["caption"] for row in rows)
    for row in rows:
        assert (row.frames - 1) % 4 == 0 and (row.width % 16, row.height % 16) == (0, 0)
        assert row.dtype == "BF16" and row.read["fps"] == "16/1"
    assert {(row.width, row.height) for row in rows} == {(48, 32), (32, 32)}
    sizes = {name.split("_")[-2] for name, _ in pairs}
    assert sizes == {"0048x0032", "0032x0032"} and "video_jsonl_file" in (out / "dataset.toml").read_text()
    assert "note" not in result.err and "clips" not in result.err


def test_what_a_trainer_expects_can_be_said_otherwise(vidlatent, videos, wan, tmp_path):
    root = tmp_path / "cache"
    run = ("-o", root, "--weights", wan, "--device", "cpu", "--workers", 1, "--frames", 5)
    said = ("--for", "musubi:wan", "--fps", 12, "--store", "fp32", "--size", "32x32")
    assert vidlatent("cache", videos, *run, *said).code == 0
    for row in open_manifest(root).present_rows():
        assert (row.dtype, row.read["fps"], row.width, row.frames) == ("F32", "12/1", 32, 5)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--for", "musubi:hv"), ("--for musubi:hv: trains on latents of hunyuan-video", "the model is")),
        (("--for", "musubi:wan", "--size", "40x32"), ("takes sides in steps of 16, not 40x32", "48x32")),
        (("--for", "nobody"), ("--for nobody: unknown", "musubi:wan")),
        (("--for", "musubi"), ("--for musubi: unknown", "musubi:wan")),
    ],
)
def test_what_the_trainer_cannot_use_is_refused_before_anything_is_made(
    vidlatent, videos, wan, tmp_path, words, complaint
):
    run = ("-o", tmp_path / "cache", "--weights", wan, "--device", "cpu", "--workers", 1)
    vidlatent("cache", videos, *run, *words).failed(2, *complaint)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("said", "kept"), [((), "full"), (("--posterior", "mode"), "mode")])
def test_what_is_said_of_the_posterior_counts_more_than_the_trainer(
    vidlatent, videos, wan, tmp_path, said, kept
):
    run = ("-o", tmp_path / "cache", "--weights", wan, "--device", "cpu", "--workers", 1)
    made = vidlatent("cache", videos / "a", *run, "--for", "finetrainers:wan", *said)
    assert made.code == 0, made.err
    (row,) = open_manifest(tmp_path / "cache").present_rows()
    with open_latent(Store(tmp_path / "cache").entry_path(row.key)) as entry:
        assert entry.header.posterior == kept
