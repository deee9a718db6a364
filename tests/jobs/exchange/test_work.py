"""What holds for every export: reproducible, can be gone on with, and refused before anything is written."""

import os
from pathlib import Path

import pytest
from helpers import trainer_caches as caches
from helpers.cache_clips import write_clip

from vidlatent.errors import BadInput, UsageError
from vidlatent.jobs.exchange.export import TOOLS, ExportOptions, export
from vidlatent.jobs.exchange.needs import NEEDS, list_words

MODELS = {"finetrainers": {"posterior": "full"}}


def cache_for(cached, word: str) -> Path:
    """A cache that suits a tool."""
    tool, _, architecture = word.partition(":")
    needs = NEEDS[tool][architecture]
    one_clip_per_file = tool in ("ai-toolkit", "simpletuner")
    kind = "pictures" if needs.still else "whole" if one_clip_per_file else "all"
    return cached((needs.models or ("wan-2.1",))[0], kind, **MODELS.get(tool, {}))


def read_tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_tool_has_its_needs():
    assert set(TOOLS) == set(NEEDS)


@pytest.mark.parametrize("word", list_words())
def test_two_exports_are_equal_byte_for_byte(cached, tmp_path, word):
    root = cache_for(cached, word)
    options = ExportOptions(shard_bytes=1, checked=True)
    made = list(export(root, tmp_path / "one", word, options))
    list(export(root, tmp_path / "other" / "place", word, options))
    one, other = read_tree(tmp_path / "one"), read_tree(tmp_path / "other" / "place")
    assert made and one == other
    assert len(one["README.md"].decode().splitlines()) <= 14
    assert not any(name.endswith(".partial") for name in one)


@pytest.mark.parametrize(
    "word",
    ["musubi:wan", "ltx2", "fastvideo:wan", "finetrainers:wan", "comfyui", "webdataset", "safetensors"],
)
def test_a_cache_that_grew_is_exported_again_and_nothing_else_is_touched(tmp_path, word):
    videos, root, out = tmp_path / "videos", tmp_path / "cache", tmp_path / "out"
    model = caches.pooling_model("ltx-2" if word == "ltx2" else "wan-2.1")
    options = ExportOptions(shard_bytes=1, update=True)
    first = [
        caches.clip(write_clip(videos / "b/clip.avi", 1), "one"),
        caches.clip(write_clip(videos / "b/d.avi", 2), "two"),
    ]
    caches.make_cache(root, model, first, posterior="full")
    made = set(export(root, out, word, options))
    (out / "mine.txt").write_text("precious")
    before = {path: (path.read_bytes(), os.stat(path).st_mtime_ns) for path in made}
    more = [
        caches.clip(write_clip(videos / "a/clip.avi", 3), "three"),
        caches.clip(write_clip(videos / "e.avi", 4), "four"),
    ]
    caches.make_cache(root, model, more, posterior="full")
    added = set(export(root, out, word, options))
    index = {out / "index.json"}
    assert added and not (added & made) - index and (out / "mine.txt").read_text() == "precious"
    assert all(
        (path.read_bytes(), os.stat(path).st_mtime_ns) == was
        for path, was in before.items()
        if path not in index
    )
    then = {path: os.stat(path).st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert list(export(root, out, word, options)) == []
    assert {path: os.stat(path).st_mtime_ns for path in out.rglob("*") if path.is_file()} == then
    lost = sorted(made - index)[0]
    lost.unlink()
    assert next(iter(export(root, out, word, options))) == lost
    assert lost.read_bytes() == before[lost][0]


def test_names_of_clips_do_not_change_when_the_cache_has_grown(tmp_path):
    """A clip that sorts before the others gets another number and another name than it would have alone."""
    videos, root = tmp_path / "videos", tmp_path / "cache"
    model = caches.pooling_model("wan-2.1")
    caches.make_cache(root, model, [caches.clip(write_clip(videos / "b/clip.avi", 1), "one")])
    options = ExportOptions(update=True)
    (old,) = export(root, tmp_path / "out", "musubi:wan", options)
    caches.make_cache(root, model, [caches.clip(write_clip(videos / "a/clip.avi", 2), "two")])
    (new,) = export(root, tmp_path / "out", "musubi:wan", options)
    assert old.name.startswith("clip_0") and new.name.startswith("clip-")


@pytest.mark.parametrize("tool", ["ltx2", "fastvideo:wan"])
def test_clips_of_several_shapes_are_said_and_can_be_kept_apart(cached, tmp_path, tool):
    root, said = cache_for(cached, tool), []
    list(export(root, tmp_path / "mixed", tool, say=said.append))
    assert any("3 shapes" in line and "split by shape" in line for line in said)
    said.clear()
    files = list(export(root, tmp_path / "split", tool, ExportOptions(split_by_shape=True), said.append))
    assert not any("shapes" in line for line in said)
    folders = {path.relative_to(tmp_path / "split").parts[0] for path in files}
    assert folders == {"64x32x9", "64x32x17", "32x64x9"}
    if tool == "ltx2":
        assert (tmp_path / "split/64x32x9/dataset.jsonl").read_text().count("\n") == 5


def test_another_vae_is_refused_before_anything_is_written(cached, tmp_path):
    checked = ExportOptions(checked=True)
    with pytest.raises(
        UsageError, match=r"(?s)musubi:wan: trains on latents of wan-2.1.*hunyuan-video \(4x8x8, 16"
    ):
        list(export(cached("hunyuan-video"), tmp_path / "out", "musubi:wan", checked))
    with pytest.raises(UsageError, match="trains on latents of flux-vae"):
        list(export(cached("sd3-vae", "pictures"), tmp_path / "out", "musubi:zi", checked))
    assert not (tmp_path / "out").exists()
    said: list[str] = []
    list(export(cached("hunyuan-video"), tmp_path / "out", "musubi:wan", say=said.append))
    assert any("not of hunyuan-video" in line for line in said)


def test_sides_that_the_trainer_does_not_take_are_refused(tmp_path):
    video = write_clip(tmp_path / "v.avi", 1, size=(40, 32))
    root = caches.make_cache(tmp_path / "cache", caches.pooling_model("wan-2.1"), [caches.clip(video, "")])
    with pytest.raises(UsageError, match="40x32, and musubi:wan takes sides in steps of 16"):
        list(export(root, tmp_path / "out", "musubi:wan", ExportOptions(checked=True)))


def test_what_is_odd_about_clips_is_said(tmp_path):
    video = write_clip(tmp_path / "v.avi", 1, frames=11)
    root = caches.make_cache(tmp_path / "cache", caches.pooling_model("wan-2.1"), [caches.clip(video, "")])
    said: list[str] = []
    list(export(root, tmp_path / "out", "musubi:wan", say=said.append))
    words = " ".join(said)
    assert "1 of 1 clips have no caption (v)" in words and "not at the 16 fps of musubi:wan" in words


def test_the_target_must_be_a_folder_and_empty_or_an_export_of_the_same_kind(cached, tmp_path):
    root, file = cached("wan-2.1", "whole"), tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        list(export(root, file, "comfyui"))
    with pytest.raises(UsageError, match=r"(?s)is not empty.*update adds what is missing"):
        list(export(root, tmp_path, "comfyui"))
    list(export(root, tmp_path / "out", "comfyui"))
    with pytest.raises(UsageError, match="holds an export for comfyui, not musubi:wan"):
        list(export(root, tmp_path / "out", "musubi:wan", ExportOptions(update=True)))
    (tmp_path / "out" / "export.json").write_text("{}")
    with pytest.raises(BadInput, match="not the record of an export"):
        list(export(root, tmp_path / "out", "comfyui", ExportOptions(update=True)))
    assert file.read_text() == "mine"


def test_files_of_others_are_left_as_they_are(cached, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    said: list[str] = []
    list(export(cached("wan-2.1", "whole"), tmp_path, "musubi:wan", ExportOptions(update=True), said.append))
    assert (tmp_path / "README.md").read_text() == "mine"
    assert any("left as they were" in line and "README.md" in line for line in said)


def test_a_clip_that_was_cached_anew_is_said(tmp_path):
    video, model = write_clip(tmp_path / "v/v.avi", 1), caches.pooling_model("wan-2.1")
    root = caches.make_cache(tmp_path / "cache", model, [caches.clip(video, "")])
    list(export(root, tmp_path / "out", "comfyui"))
    write_clip(video, 2)
    caches.make_cache(root, model, [caches.clip(video, "")])
    said: list[str] = []
    assert list(export(root, tmp_path / "out", "comfyui", ExportOptions(update=True), said.append)) == []
    assert any("1 clips were cached anew" in line for line in said)


def test_the_architecture_is_told_by_the_latents_where_only_one_takes_them(cached, tmp_path):
    root = cached("wan-2.1", "whole")
    list(export(root, tmp_path / "out", "fastvideo", ExportOptions(checked=True)))
    assert "fastvideo:wan" in (tmp_path / "out/README.md").read_text()
    with pytest.raises(UsageError, match=r"(?s)trainer fastvideo: which of its architectures.*hunyuan"):
        list(export(cached("ltx-2"), tmp_path / "other", "fastvideo", ExportOptions(checked=True)))
    list(export(cached("ltx-2"), tmp_path / "other", "fastvideo"))
    assert "# Latents for fastvideo\n" in (tmp_path / "other/README.md").read_text()


@pytest.mark.parametrize("word", ["musubi:qi", "ai-toolkit:qwen_image"])
def test_models_of_pictures_take_no_films(cached, tmp_path, word):
    with pytest.raises(UsageError, match=r"(?s)has 9 frames, and .* takes single pictures.*frames 1"):
        list(export(cached("qwen-image", "whole"), tmp_path / "out", word))
    assert not (tmp_path / "out").exists()


def test_films_do_not_join_an_export_of_pictures_for_musubi(tmp_path):
    model, root = caches.pooling_model("wan-2.1"), tmp_path / "cache"
    video = write_clip(tmp_path / "v/v.avi", 1)
    picture = caches.clip(video, "one", frames=1)
    caches.make_cache(root, model, [picture])
    list(export(root, tmp_path / "out", "musubi:wan"))
    caches.make_cache(root, model, [caches.clip(write_clip(tmp_path / "v/w.avi", 2), "two")])
    with pytest.raises(UsageError, match="holds single pictures"):
        list(export(root, tmp_path / "out", "musubi:wan", ExportOptions(update=True)))


@pytest.mark.parametrize(
    ("word", "options", "complaint"),
    [
        ("webdataset", {"space": "normalised"}, "space normalised: webdataset keeps latents raw"),
        ("finetrainers:wan", {"space": "normalised"}, "finetrainers keeps latents raw"),
        ("ltx2", {"text_embeddings": Path("x")}, "text_embeddings: ltx2 does not keep them"),
    ],
)
def test_options_that_mean_nothing_to_a_tool_are_refused(cached, tmp_path, word, options, complaint):
    with pytest.raises(UsageError, match=complaint):
        list(export(cache_for(cached, word), tmp_path / "out", word, ExportOptions(**options)))
    assert not (tmp_path / "out").exists()
