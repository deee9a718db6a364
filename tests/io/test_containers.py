"""Only what a file holds itself is read: no playlist, no device, no network; and every name is a name."""

import socket
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import pytest
from helpers import video_clips as clips

from vidlatent.errors import BadVideo
from vidlatent.io.containers import open_sound_file, open_video_file
from vidlatent.io.read.source import open_video
from vidlatent.io.sound.copy import copy_audio, read_shift
from vidlatent.io.write.images import encode_image
from vidlatent.io.write.sink import open_sink

WAVE = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data\0\0\0\0"
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n"


@pytest.fixture
def clip(tmp_path) -> Path:
    return clips.make(tmp_path / "clip.mp4", clips.Recipe(audio="aac"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ffconcat version 1.0\nfile clip.mp4\n", "a list of files"),
        ("#EXTM3U\n#EXTINF:1,\nclip.mp4\n", "a playlist"),
        (SDP.format(port=6000), "a session description"),
        ('<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>', "an XML document"),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".sdp"])
def test_a_playlist_is_no_video(clip, tmp_path, text, told, suffix):
    """Its neighbour would be read in its place, and a cache keyed by the list would not know."""
    path = tmp_path / f"list{suffix}"
    path.write_text(text)
    with pytest.raises(BadVideo, match=f"{told}.*only what a file holds itself is read"):
        open_video(path)
    with pytest.raises(BadVideo):
        copy_audio(path, tmp_path / "sound.mka")


def test_sound_that_is_a_session_description_opens_no_port(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ValueError, match="Invalid"):
        open_sound_file(BytesIO(SDP.format(port=port).encode()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(("127.0.0.1", port))


def test_sound_is_what_we_write_and_nothing_else(clip):
    with pytest.raises(ValueError, match="Invalid"):
        open_sound_file(BytesIO(WAVE))
    assert open_sound_file(clip).format.name.startswith("mov")  # QuickTime carries what Matroska cannot


@pytest.mark.parametrize(
    "name", ["2024-05-01T12:30:45.mp4", "http:x.mp4", "a%03d.mp4", "-i.mp4", "ü [1].mp4"]
)
def test_any_name_is_the_name_of_a_file(clip, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(clip.read_bytes())
    frames = clips.frames(Path(name))
    assert len(frames) == 12
    with open_video(Path(name)) as video, open_sink(Path(f"out-{name}"), video.info.picture()) as sink:
        for frame in video.frames():
            sink.write(frame.rgb, frame.pts, frame.duration)
    assert len(clips.frames(Path(f"out-{name}"))) == 12


def test_a_pattern_in_a_name_reads_no_neighbour(tmp_path):
    for name, level in (("b%03d.png", 10), ("b001.png", 200)):
        (tmp_path / name).write_bytes(encode_image(clips.scene(0, (32, 16)) * 0 + level))
    (frame,) = clips.frames(tmp_path / "b%03d.png")
    assert frame.rgb.mean() == 10


def test_devices_are_not_opened():
    with pytest.raises((ValueError, OSError)):
        open_video_file("testsrc", "lavfi", {})


@pytest.mark.parametrize("text", ["1/0", "1e99999999", "nan", "9" * 400, "-1/-2", ""])
def test_a_shift_that_is_no_time_is_refused(text):
    with pytest.raises(BadVideo, match="expected seconds as num/den"):
        read_shift(text)


def test_a_shift_is_read_as_it_was_written():
    assert [read_shift(str(each)) for each in (Fraction(0), Fraction(-7, 90_000))] == [
        0,
        Fraction(-7, 90_000),
    ]
