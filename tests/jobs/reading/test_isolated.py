"""Reading in a process of its own: the same pixels and errors, and a crash that stays there."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import MEDIA

from vidlatent.errors import BadVideo, UsageError
from vidlatent.io.read.source import ReadOptions, open_video
from vidlatent.jobs.reading.isolated import IsolatedReader

pytestmark = pytest.mark.usefixtures("processes_as_in_real_life")
# Put where every Python process finds it: reading files of these names dies or hangs, as of a codec's bug.
SABOTAGE = """
import os, signal, time
from vidlatent.io.read.libav import LibavSource

def frames(self, read=LibavSource.frames):
    for number, frame in enumerate(read(self)):
        if "deadly" in self._path and number == 3:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "endless" in self._path and number == 3:
            time.sleep(60)
        mark = self._path + ".killed"
        if ("unlucky" in self._path and number == 3 and not os.path.exists(mark)) or "greedy" in self._path:
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        yield frame

LibavSource.frames = frames
"""


@pytest.fixture
def sabotaged(tmp_path, monkeypatch) -> Path:
    """A folder with clips that kill whatever process reads them, or make it hang, at the fourth frame."""
    (tmp_path / "sitecustomize.py").write_text(SABOTAGE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name in ("deadly.avi", "endless.avi", "unlucky.avi", "greedy.avi"):
        (tmp_path / name).write_bytes((MEDIA / "gradio_b.avi").read_bytes())
    return tmp_path


@pytest.fixture(scope="module")
def reader():
    with IsolatedReader() as one:
        yield one


@pytest.mark.parametrize("name", ["pyfeat_no_face.mp4", "ax_hlg10.mp4", "oh264_crop_300x168.264"])
def test_pixels_times_and_notices_are_the_same(reader, name):
    options = ReadOptions(frames=12)
    with open_video(MEDIA / name, options) as here, reader.open(MEDIA / name, options) as there:
        assert here.info == there.info
        for a, b in zip(here.frames(), there.frames(), strict=True):
            assert (a.pts, a.duration, a.rgb.dtype) == (b.pts, b.duration, b.rgb.dtype)
            assert np.array_equal(a.rgb, b.rgb)
        assert here.notices == there.notices


@pytest.mark.parametrize(
    ("name", "options", "kind", "words"),
    [
        ("absent.mp4", ReadOptions(), BadVideo, "no such file"),
        ("gradio_b.avi", ReadOptions(stream=9), UsageError, "no video stream 9"),
        ("gradio_b.avi", ReadOptions(start=Fraction(99)), UsageError, "no frame in the span"),
    ],
)
def test_errors_are_the_same(reader, name, options, kind, words):
    with pytest.raises(kind, match=words) as here, open_video(MEDIA / name, options) as video:
        list(video.frames())
    with pytest.raises(kind) as there, reader.open(MEDIA / name, options) as video:
        list(video.frames())
    assert there.type is here.type is kind
    assert there.value.args == here.value.args  # parameters in them are still known as such


def test_a_crash_names_the_signal_and_the_frame_and_spares_the_next_clip(sabotaged):
    with IsolatedReader() as reader:
        with (
            pytest.raises(BadVideo, match=r"deadly\.avi: .* died \(SIGSEGV\) at frame 3\n"),
            reader.open(sabotaged / "deadly.avi", ReadOptions()) as video,
        ):
            list(video.frames())
        with reader.open(MEDIA / "gradio_b.avi", ReadOptions(frames=5)) as video:
            assert len(list(video.frames())) == 5


def test_a_process_that_was_killed_is_not_the_codecs_fault_and_reads_again(sabotaged):
    """As where a machine is out of memory; each frame is given once, and the same as without that."""
    options = ReadOptions(frames=9)
    with IsolatedReader() as reader, reader.open(sabotaged / "unlucky.avi", options) as video:
        found = list(video.frames())
    assert (sabotaged / "unlucky.avi.killed").exists()
    with open_video(MEDIA / "gradio_b.avi", options) as video:
        for a, b in zip(found, video.frames(), strict=True):
            assert a.pts == b.pts and np.array_equal(a.rgb, b.rgb)


def test_a_process_that_is_killed_again_is_said_to_be(sabotaged):
    with (
        IsolatedReader() as reader,
        pytest.raises(
            BadVideo, match=r"greedy\.avi: .* was killed twice \(SIGKILL\) at frame 0\nhint: .*memory"
        ),
        reader.open(sabotaged / "greedy.avi", ReadOptions()) as video,
    ):
        list(video.frames())


def test_a_clip_that_is_left_early_spares_the_next(reader):
    for _ in range(2):
        with reader.open(MEDIA / "gradio_b.avi", ReadOptions()) as video:
            assert next(video.frames()).pts == 0


def test_a_clip_that_hangs_is_given_up(sabotaged):
    with IsolatedReader(stall_timeout=0) as reader:
        with reader.open(MEDIA / "gradio_b.avi", ReadOptions(frames=1)) as video:
            list(video.frames())
        reader._stall_timeout = 2.0  # only now: to begin a process takes longer than to read a few frames
        with (
            pytest.raises(BadVideo, match=r"endless\.avi: .* no progress for 2 s, and was given up"),
            reader.open(sabotaged / "endless.avi", ReadOptions()) as video,
        ):
            list(video.frames())
