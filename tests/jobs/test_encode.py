"""Encoding that breaks off: nothing still reads a video that is closed, or believes one that changed."""

import gc
import os
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from helpers import cache_clips as clips
from helpers import video_clips

from vidlatent.errors import BadVideo, OutOfResources
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.io.write.images import encode_image
from vidlatent.jobs.encode import EncodeOptions, ReadOptions, encode, load_model, open_video


def test_nobody_reads_any_more_when_the_source_is_closed(sample, tmp_path, monkeypatch):
    def full(*_):
        raise OutOfResources("disk full")

    still_reading = []

    @contextmanager
    def watched(source, options):
        with open_video(source, options) as video:
            try:
                yield video
            finally:
                names = [thread.name for thread in threading.enumerate()]
                still_reading.extend(name for name in names if "prefetch" in name)

    monkeypatch.setattr(LatentWriter, "append", full)
    with pytest.raises(OutOfResources, match="disk full"):
        encode(sample, tmp_path / "x.latent", load_model("toy"), open_source=watched)
    assert not still_reading


def test_memory_does_not_creep_from_clip_to_clip(sample, tmp_path, monkeypatch):
    """Each header looked its version up, which kept a list of every import folder that had changed."""
    monkeypatch.syspath_prepend(tmp_path)
    model, read = load_model("toy", device="cpu"), ReadOptions(frames=1, size=(32, 32))

    def count_objects(clips: int) -> int:
        for n in range(clips):
            (tmp_path / f"new folder of clip {n}").mkdir(exist_ok=True)
            encode(sample, tmp_path / "x.latent", model, EncodeOptions(read=read, force=True))
        gc.collect()
        return len(gc.get_objects())

    before = count_objects(2)
    assert count_objects(8) - before < 8  # less than one object a clip


def frames_folder(folder: Path) -> Path:
    folder.mkdir()
    for n in range(3):
        (folder / f"{n}.png").write_bytes(encode_image(video_clips.scene(n, (16, 16))))
    return folder


def test_a_picture_wider_than_a_file_of_latents_can_say_is_refused(tmp_path, monkeypatch):
    """It was refused in words about a header that was broken."""
    monkeypatch.setattr("vidlatent.jobs.encode.MOST_PX", 31)
    (tmp_path / "wide.png").write_bytes(encode_image(np.zeros((8, 32, 3), np.uint8)))
    with pytest.raises(BadVideo, match=r"wide\.png: 32x8, and no side may have more than 31 pixels"):
        encode(tmp_path / "wide.png", tmp_path / "x.latent", load_model("toy", "cpu"))


def touched(path: Path) -> None:
    os.utime(path, (1e9, 1e9))


def replaced(path: Path) -> None:
    other = path.with_suffix(".other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.rename(path)


def added(folder: Path) -> None:
    (folder / "3.png").write_bytes((folder / "2.png").read_bytes())


@pytest.mark.parametrize("change", [touched, replaced, added])
def test_a_source_that_changes_meanwhile_gives_no_latents(tmp_path, change):
    """Its hash was taken after its frames were read, of whatever the file was by then."""
    make = frames_folder if change is added else lambda path: clips.write_clip(path, 1)
    source = make(tmp_path / "source")

    @contextmanager
    def opened(source, options):
        with open_video(source, options) as video:
            change(source)
            yield video

    with pytest.raises(BadVideo, match="source: changed while it was read"):
        encode(source, tmp_path / "x.latent", load_model("toy"), open_source=opened)
    assert not (tmp_path / "x.latent").exists()
