"""Encoding that breaks off: nothing may still read a video that is being closed."""

import gc
import threading
from contextlib import contextmanager

import pytest

from vidlatent.errors import OutOfResources
from vidlatent.io.latent.writer import LatentWriter
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
