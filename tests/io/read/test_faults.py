"""Broken video gives a result or one clear error: never a crash, a hang, or a shorter clip without a word."""

import io
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import video_clips as clips

from vidlatent.errors import BadVideo, VidlatentError
from vidlatent.io.picture.integrity import count_missing_bytes, find_fault, find_torn_end
from vidlatent.io.read.source import ReadOptions, open_video
from vidlatent.io.sound.copy import copy_audio
from vidlatent.io.sources.disk import DiskSource
from vidlatent.io.sources.source import look_into

Recipe = clips.Recipe
TIMEOUT_S = 120  # for a child that reads a broken clip of 12 tiny frames, on a busy machine
CONTAINERS = {
    ".mp4": Recipe(audio="aac"),
    ".mov": Recipe(codec="libx265", audio="aac"),
    ".mkv": Recipe(audio="flac"),
    ".webm": Recipe(codec="libvpx-vp9", audio="libopus"),
    ".avi": Recipe(codec="mpeg4", audio="libmp3lame"),
    ".ts": Recipe(audio="mp2"),
}


def test_something_else_is_not_a_video(tmp_path):
    (tmp_path / "x.mp4").write_text("just words\n" * 100)
    with pytest.raises(BadVideo, match=r"x\.mp4: not a video"):
        open_video(tmp_path / "x.mp4")


def test_an_empty_file_is_called_that(tmp_path):
    (tmp_path / "x.mp4").touch()
    with pytest.raises(BadVideo, match=r"x\.mp4: empty file"):
        open_video(tmp_path / "x.mp4")


def test_a_missing_file_is_called_that(tmp_path):
    with pytest.raises(BadVideo, match=r"x\.mp4: no such file"):
        open_video(tmp_path / "x.mp4")


def test_sound_alone_is_no_video(tmp_path):
    copy_audio(clips.make(tmp_path / "x.mp4", Recipe(audio="aac")), tmp_path / "x.mka")
    with pytest.raises(BadVideo, match=r"x\.mka: no video stream"):
        open_video(tmp_path / "x.mka")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi"])
def test_a_torn_file_names_the_frame_where_it_ends(tmp_path, suffix):
    whole = clips.make(tmp_path / f"whole{suffix}", CONTAINERS[suffix])
    if suffix == ".mp4":  # the index in front, as for the web: else nothing at all can be read
        whole = with_index_first(whole, tmp_path / "front.mp4")
    count = len(clips.frames(whole))
    torn = tmp_path / f"torn{suffix}"
    torn.write_bytes(whole.read_bytes()[: -whole.stat().st_size // 3])
    with open_video(torn) as video, pytest.raises(BadVideo, match=r"torn\.\w+: frame \d+") as caught:
        kept = 0
        for _ in video.frames():
            kept += 1
    assert kept < count and f"frame {kept}" in str(caught.value)
    assert caught.value.hint == "use allow_truncated to keep the frames before it"
    with open_video(torn, ReadOptions(allow_truncated=True)) as video:
        assert len(list(video.frames())) == kept
        assert f"{kept} frames kept" in " ".join(video.notices)


def test_a_torn_gif_is_not_a_shorter_one(tmp_path):
    """libav plays what is there of it."""
    whole = clips.make(tmp_path / "whole.gif", Recipe(codec="gif", pix_fmt="rgb8"))
    data, torn = whole.read_bytes(), tmp_path / "torn.gif"
    for kept in (-2, -100, -len(data) // 2):
        torn.write_bytes(data[:kept])
        with open_video(torn) as video, pytest.raises(BadVideo, match=r"torn\.gif: frame \d+: .* at byte"):
            list(video.frames())
    torn.write_bytes(data[:-1])  # all but the end mark, which some writers forget
    assert len(clips.frames(torn)) == len(clips.frames(whole)) == 12


def with_index_first(source: Path, target: Path) -> Path:
    import av

    with av.open(str(source)) as old, av.open(str(target), "w", options={"movflags": "faststart"}) as new:
        streams = {s.index: new.add_stream_from_template(s, opaque=True) for s in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    return target


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi", ".mov"])
def test_whole_files_are_not_called_torn(tmp_path, suffix):
    path = clips.make(tmp_path / f"x{suffix}", CONTAINERS[suffix])
    assert look_into(DiskSource(path), count_missing_bytes) == 0
    path.write_bytes(path.read_bytes()[:-9])
    assert look_into(DiskSource(path), count_missing_bytes) == 9


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".mov", ".ts"])
@pytest.mark.parametrize("more", [b"\0" * 5000, b"tags of a camera " * 300, b"\x12" * 9])
def test_what_follows_the_last_part_of_a_file_is_no_fault(tmp_path, suffix, more):
    """Cameras append their own data, and downloads are padded: every frame is there all the same."""
    path = clips.make(tmp_path / f"x{suffix}", CONTAINERS[suffix])
    wanted = len(clips.frames(path))
    path.write_bytes(path.read_bytes() + more)
    assert len(clips.frames(path)) == wanted


@pytest.mark.parametrize("inside", [b"\0" * 999, b"\x7f\xff\x84abcd", b"\xec\x83abc"])
def test_unknown_and_null_elements_of_matroska_are_passed_over(tmp_path, inside):
    """They lie between the segment's own elements; the segment's size counts them."""
    data = clips.make(tmp_path / "x.mkv", CONTAINERS[".mkv"]).read_bytes()
    at = data.index(b"\x1f\x43\xb6\x75")  # the first cluster
    begin = data.index(b"\x18\x53\x80\x67") + 4
    length = int.from_bytes(data[begin : begin + 8], "big") + len(inside)
    path = tmp_path / "y.mkv"
    path.write_bytes(data[:begin] + length.to_bytes(8, "big") + data[begin + 8 : at] + inside + data[at:])
    assert look_into(DiskSource(path), find_fault) is None
    assert look_into(DiskSource(tmp_path / "x.mkv"), find_fault) is None


def test_an_avi_whose_size_was_never_filled_in_is_whole(tmp_path):
    """As ffmpeg leaves it in a pipe; its header then promises frames that were never made."""
    path = clips.make(tmp_path / "x.avi", CONTAINERS[".avi"])
    data = bytearray(path.read_bytes())
    data[4:8] = b"\xff" * 4
    at = data.index(b"avih") + 8 + 16
    data[at : at + 4] = (1 << 30).to_bytes(4, "little")
    path.write_bytes(data)
    with open_video(path) as video:
        assert len(list(video.frames())) == 12
    assert not any("promises" in notice or "counts" in notice for notice in video.notices)


ENDLESS = {".ts": CONTAINERS[".ts"], ".flv": Recipe(codec="flv", format="flv")}


@pytest.mark.parametrize("suffix", ENDLESS)
def test_a_recording_that_ends_in_the_middle_of_a_part_is_said_to(tmp_path, suffix):
    path = clips.make(tmp_path / f"x{suffix}", ENDLESS[suffix])
    whole = path.read_bytes()
    for cut, told in ((len(whole), False), (len(whole) - 1, True), (2 * len(whole) // 3 | 1, True)):
        path.write_bytes(whole[:cut])
        with open_video(path) as video:
            assert list(video.frames())
        assert any("ends in the middle of a part" in notice for notice in video.notices) is told


def test_a_live_recording_of_webm_that_ends_in_the_middle_of_a_part_is_said_to(tmp_path):
    recording = tmp_path / "live.webm"
    recording.write_bytes(whole := live(clips.make(tmp_path / "x.webm", CONTAINERS[".webm"])))
    assert look_into(DiskSource(recording), find_torn_end) is None
    for cut in (1, 50, len(whole) // 3):
        recording.write_bytes(whole[:-cut])
        assert "ends in the middle of a part" in look_into(DiskSource(recording), find_torn_end)


@pytest.mark.parametrize("kept", [None, -1, -30])
def test_an_ogg_that_ends_without_its_last_page_is_said_to(tmp_path, kept):
    path = tmp_path / "x.ogg"
    page = b"OggS\0%c" + b"\0" * 20 + b"\x01\x20" + b"x" * 32
    path.write_bytes((page % 0 + page % 4)[:kept])
    assert (look_into(DiskSource(path), find_torn_end) is None) is (kept is None)
    path.write_bytes(page % 0)
    assert look_into(DiskSource(path), find_torn_end)


@pytest.mark.parametrize(("kept", "torn"), [(0, False), (1, True), (40, True)])
def test_a_wmv_that_ends_before_its_data_is_said_to(tmp_path, kept, torn):
    data = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c") + (124).to_bytes(8, "little") + b"x" * 100
    head = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + (34).to_bytes(8, "little") + b"x" * 10
    path = tmp_path / "x.wmv"
    path.write_bytes((head + data)[: len(head + data) - kept])
    assert (look_into(DiskSource(path), find_torn_end) is not None) is torn


def live(source: Path) -> bytes:
    """The same streams as a recorder writes them that cannot go back: nothing has a size."""
    import av

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, block) -> int:
            self.data += bytes(block)
            return len(block)

    pipe = Pipe()
    with av.open(str(source)) as old, av.open(pipe, "w", format="webm", options={"live": "1"}) as new:
        streams = {s.index: new.add_stream_from_template(s) for s in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    return bytes(pipe.data)


def test_a_matroska_that_begins_late_promises_no_more_than_it_has(tmp_path):
    stamps = tuple(range(2000, 2480, 40))
    path = clips.make(tmp_path / "x.mkv", Recipe(codec="ffv1", stamps=stamps))
    with open_video(path) as video:
        assert len(list(video.frames())) == 12
    assert not any("promises" in notice for notice in video.notices)


def test_frames_before_the_damage_are_delivered_first(tmp_path):
    whole = clips.make(tmp_path / "x.mkv", Recipe(codec="ffv1"))
    expected = clips.frames(whole)
    whole.write_bytes(whole.read_bytes()[: -whole.stat().st_size // 2])
    got = []
    with open_video(whole) as video, pytest.raises(BadVideo):
        for frame in video.frames():
            got.append(frame)
    assert got and all(np.array_equal(a.rgb, b.rgb) for a, b in zip(got, expected, strict=False))


READ = """
import sys
from pathlib import Path
from vidlatent.errors import VidlatentError
from vidlatent.io.sound.copy import copy_audio
from vidlatent.io.read.source import ReadOptions, open_video
for path in sys.argv[2:]:
    for lenient in (False, True):
        try:
            with open_video(path, ReadOptions(allow_truncated=lenient, size=(16, 16))) as video:
                count = sum(1 for _ in video.frames())
            copy_audio(Path(path), Path(sys.argv[1]))
            print(path, "frames", count, "|", len(video.notices), flush=True)
        except VidlatentError as e:
            print(path, "error", e.what.splitlines()[0], flush=True)
"""


def damage(data: bytes, rng: random.Random) -> bytes:
    """Cut somewhere, or flip one to twenty bytes anywhere."""
    if rng.random() < 0.5:
        return data[: rng.randrange(1, len(data))]
    spoiled = bytearray(data)
    for _ in range(rng.randint(1, 20)):
        spoiled[rng.randrange(len(spoiled))] ^= rng.randint(1, 255)
    return bytes(spoiled)


def fuzz(folder: Path, cases: int, seed: int) -> None:
    """Every broken clip is read in a child, a batch at a time; each must answer in words."""
    rng = random.Random(seed)
    wholes = [clips.make(folder / f"whole{suffix}", recipe) for suffix, recipe in CONTAINERS.items()]
    counts = {whole.suffix: len(clips.frames(whole)) for whole in wholes}
    broken = []
    for case in range(cases):
        whole = wholes[case % len(wholes)]
        broken.append(folder / f"{case:03d}{whole.suffix}")
        broken[-1].write_bytes(damage(whole.read_bytes(), rng))
    answers = []
    for start in range(0, cases, 20):
        batch = [str(path) for path in broken[start : start + 20]]
        command = [sys.executable, "-c", READ, str(folder / "x.mka"), *batch]
        child = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        assert child.returncode == 0, f"{len(answers) // 2 + start}: {child.stderr[-2000:]}"
        answers += child.stdout.splitlines()
    assert len(answers) == 2 * cases
    assert [answer for answer in answers if not is_honest(answer, counts)] == []


def is_honest(answer: str, counts: dict[str, int]) -> bool:
    """Whether an error names its file, and whether a shorter clip came with a word about it."""
    path, kind, rest = answer.split(" ", 2)
    if kind == "error":
        return path in rest
    count, notices = map(int, rest.split(" | "))
    return count >= counts[Path(path).suffix] or notices > ALWAYS_SAID or Path(path).suffix in LENGTHLESS


ALWAYS_SAID = 1  # that the colour is assumed
LENGTHLESS = {".ts"}  # a transport stream says nowhere how long it is


def test_damaged_files_are_answered_in_words(tmp_path):
    fuzz(tmp_path, cases=24, seed=1)


@pytest.mark.slow
def test_500_damaged_files_are_answered_in_words(tmp_path):
    fuzz(tmp_path, cases=500, seed=2)


def test_every_error_is_one_of_ours(tmp_path):
    """Whatever libav raises is translated, also by the audio copy."""
    (tmp_path / "x.mkv").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(5000))
    for act in (
        lambda: open_video(tmp_path / "x.mkv"),
        lambda: copy_audio(tmp_path / "x.mkv", tmp_path / "a.mka"),
    ):
        with pytest.raises(VidlatentError, match=r"x\.mkv"):
            act()
