"""Encoding that breaks off: nothing may still read a video that is being closed."""

import threading
from contextlib import contextmanager

import pytest

from vidlatent.errors import OutOfResources
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.jobs.encode import encode, load_model, open_video


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
