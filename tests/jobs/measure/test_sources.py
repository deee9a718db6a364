"""Which files a report is about."""

import os
from hashlib import sha256

from vidlatent.jobs.measure.sources import identify


def test_files_and_folders_have_the_hash_of_their_bytes(tmp_path):
    (tmp_path / "frames").mkdir()
    for name, content in (("clip.mp4", b"film"), ("frames/1.png", b"one"), ("frames/2.png", b"two!")):
        (tmp_path / name).write_bytes(content)
    found = identify([str(tmp_path / "clip.mp4"), str(tmp_path / "frames"), str(tmp_path / "gone.mp4")])
    assert list(found) == [str(tmp_path / "clip.mp4"), str(tmp_path / "frames")]
    clip, frames = found.values()
    assert (clip.sha256, clip.bytes) == (sha256(b"film").hexdigest(), 4)
    assert frames.bytes == 7
    (tmp_path / "frames/2.png").write_bytes(b"two?")
    assert identify([str(tmp_path / "frames")])[str(tmp_path / "frames")].sha256 != frames.sha256


def test_nothing_is_read_from_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert identify([str(tmp_path / "pipe"), "-"]) == {}
