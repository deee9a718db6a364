"""Sources: the same bytes, wherever they lie, give the same video."""

import io
import os
import tempfile

import pytest
from helpers import video_clips as clips
from helpers.video_clips import Recipe

from vidlatent.errors import BadVideo
from vidlatent.io.read.source import ReadOptions, open_video
from vidlatent.io.sources.disk import DiskSource
from vidlatent.io.sources.member import MemberSource
from vidlatent.io.sources.pipe import PipeSource
from vidlatent.io.sources.source import measure_bytes

KINDS = {  # of which each is found out about in a way of its own: an index behind, elements, chunks, packets
    ".mp4": Recipe(audio="aac"),
    ".mkv": Recipe(format="matroska"),
    ".avi": Recipe(codec="mpeg4", format="avi"),
    ".ts": Recipe(format="mpegts"),
}


def put_into(tar, data: bytes) -> MemberSource:
    """A member in the middle of a file whose other bytes are those of another video."""
    tar.write_bytes(data[::-1] + data + data[: len(data) // 2])
    return MemberSource(DiskSource(tar), f"{tar}::x", len(data), len(data))


def read(source) -> tuple:
    with open_video(source) as video:
        return [(f.pts, f.duration, f.rgb.tobytes()) for f in video.frames()], video.notices, video.info


@pytest.mark.parametrize("suffix", KINDS)
def test_a_member_of_a_tar_reads_as_the_file_that_it_was_and_no_copy_is_made(tmp_path, monkeypatch, suffix):
    path = clips.make(tmp_path / f"x{suffix}", KINDS[suffix])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    member = put_into(tmp_path / "s.tar", path.read_bytes())
    (frames, notices, info), (expected, expected_notices, expected_info) = read(member), read(path)
    assert frames == expected and notices == expected_notices and len(frames) == 12
    assert info.path == member.name and info.audio == expected_info.audio
    assert (info.header_frames, info.header_duration) == (
        expected_info.header_frames,
        expected_info.header_duration,
    )
    assert member.sha256() == DiskSource(path).sha256()


def test_a_folder_of_images_has_a_hash_whatever_their_names_are(tmp_path):
    (tmp_path / os.fsdecode(b"1\xff.png")).write_bytes(b"an image")
    assert len(DiskSource(tmp_path).sha256()) == 64


def test_a_member_is_sought_as_a_file_is(tmp_path):
    path = clips.make(tmp_path / "x.mp4", Recipe(stamps=tuple(range(0, 3000, 40))))
    member, late = put_into(tmp_path / "s.tar", path.read_bytes()), ReadOptions(start=2, frames=3)
    found = [[f.rgb.tobytes() for f in open_video(one, late).frames()] for one in (member, path)]
    assert found[0] == found[1] and len(found[0]) == 3


def test_a_member_that_is_cut_off_is_said_to_be(tmp_path):
    data = clips.make(tmp_path / "x.mp4", Recipe()).read_bytes()
    whole = put_into(tmp_path / "s.tar", data)
    torn = MemberSource(whole.inside, whole.name, whole.offset, whole.size - 5)
    with pytest.raises(BadVideo, match=rf"{whole.name}: frame \d+: the file ends 5 bytes too early"):
        read(torn)


def test_a_member_has_no_bytes_of_its_neighbours(tmp_path):
    member = put_into(tmp_path / "s.tar", b"0123456789")
    with member.open() as file:
        assert file.read() == b"0123456789" and file.read() == b""
        with pytest.raises(OSError, match="before the first byte"):
            file.seek(-20, io.SEEK_CUR)
        assert file.seek(-3, io.SEEK_END) == 7 and file.read(9) == b"789"


def test_a_source_tells_when_it_was_changed(tmp_path):
    member = put_into(tmp_path / "s.tar", b"0123456789")
    before = member.state()
    assert before == DiskSource(tmp_path / "s.tar").state()
    (tmp_path / "s.tar").write_bytes(b"other")
    assert member.state() != before


def test_an_empty_member_is_no_video(tmp_path):
    member = put_into(tmp_path / "s.tar", b"0123456789")
    with pytest.raises(BadVideo, match="empty file"):
        open_video(MemberSource(member.inside, member.name, 3, 0))


def test_nobody_takes_bytes_from_a_pipe_before_its_decoder():
    stream = io.BytesIO(b"YUV4MPEG2 W16 H16 F25:1 C420\nFRAME\n" + bytes(384))
    source = PipeSource("pipe", stream)
    assert (measure_bytes(source), source.state(), source.sha256(), stream.tell()) == (0, None, "", 0)
    with open_video(source) as video:
        assert [f.rgb.shape for f in video.frames()] == [(16, 16, 3)]
