"""Names of exported files: they stay in the folder of the export, and are such as a disk takes."""

import os
from pathlib import Path

import pytest
from helpers import trainer_caches as caches
from helpers.cache_clips import write_clip

from vidlatent.errors import UsageError
from vidlatent.jobs.cache.manifest import DONE, ManifestRow
from vidlatent.jobs.exchange.export import ExportOptions, export
from vidlatent.jobs.exchange.names import find_folder
from vidlatent.jobs.exchange.record import Record


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("/data/t.tar::a/b/x.mp4", "a/b"),
        ("/data/t.tar::../../../home/you/x.mp4", "home/you"),
        ("/data/t.tar::a/../../x.mp4", "a"),
        ("/data/t.tar::/home/you/x.mp4", "home/you"),
        ("/data/a::/b/x.mp4", "b"),
        ("/data/a/x.mp4", "a"),
        ("/data/../home/x.mp4", "home"),
        ("/else/where/x.mp4", "else/where"),
    ],
)
def test_no_folder_leads_out_of_the_export(source: str, folder: str):
    """Names in a tar are those of whoever made it: `../` in one led the latents to any place."""
    assert str(find_folder(ManifestRow(source, DONE), Path("/data"))) == folder


@pytest.mark.parametrize("word", ["comfyui", "fastvideo:wan", "ltx2", "musubi:wan", "webdataset"])
def test_a_name_that_is_no_utf8_is_exported_and_known_again(tmp_path: Path, word: str):
    video = write_clip(tmp_path / "videos" / os.fsdecode(b"bad\xff.avi"), 1)
    model = caches.pooling_model("ltx-2" if word == "ltx2" else "wan-2.1")
    caches.make_cache(tmp_path / "cache", model, [caches.clip(video, "half a \ud83d character")])
    options = ExportOptions(update=True)
    assert list(export(tmp_path / "cache", tmp_path / "out", word, options))
    assert list(export(tmp_path / "cache", tmp_path / "out", word, options)) == []
    assert Record.read(tmp_path / "out").clips[0].source == str(video)


def test_a_name_too_long_for_a_disk_is_said_before_anything_is_written(tmp_path: Path):
    video = write_clip(tmp_path / "videos" / f"{'a' * 251}.avi", 1)
    caches.make_cache(tmp_path / "cache", caches.pooling_model("wan-2.1"), [caches.clip(video, "")])
    with pytest.raises(UsageError, match="a name too long for a disk\nhint: rename the video"):
        list(export(tmp_path / "cache", tmp_path / "out", "comfyui", ExportOptions()))
    assert not (tmp_path / "out").exists()
