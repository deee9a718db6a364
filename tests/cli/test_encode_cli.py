"""`encode` as people call it: bare frames down a pipe, decoders that crash."""

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.paths import MEDIA

from vidlatent.cli import app
from vidlatent.io.read.source import ReadOptions, open_video

SUICIDE = """
import os, signal
from vidlatent.io.read.libav import LibavSource

def frames(self, read=LibavSource.frames):
    for number, frame in enumerate(read(self)):
        if "deadly" in self._path and number == 3:
            os.kill(os.getpid(), signal.SIGSEGV)
        yield frame

LibavSource.frames = frames
"""


@pytest.fixture
def deadly(tmp_path, monkeypatch) -> Path:
    """A clip that kills whatever other process reads it, at its fourth frame."""
    (tmp_path / "sitecustomize.py").write_text(SUICIDE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    clip = tmp_path / "deadly.avi"
    clip.write_bytes((MEDIA / "gradio_b.avi").read_bytes())
    return clip


def encode(*words: object) -> int:
    return app.run(["encode", *map(str, words), "-m", "toy", "--frames", "9", "--crop", "0,0,64,48"])


def test_a_decoder_that_crashes_fails_its_clip_and_spares_the_others(deadly, tmp_path, capsys):
    out = tmp_path / "out"
    assert encode(deadly, MEDIA / "gradio_b.avi", "-o", f"{out}/") == 1
    assert "deadly.avi: the process that read it died (SIGSEGV) at frame 3" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["gradio_b.latent"]


def test_a_single_clip_can_be_isolated_too(deadly, tmp_path, capsys):
    assert encode(deadly, "-o", tmp_path / "x.latent", "--isolate") == 3
    assert "died (SIGSEGV) at frame 3" in capsys.readouterr().err
    assert not (tmp_path / "x.latent").exists()


def test_isolation_changes_no_byte_of_the_latents(tmp_path):
    for name, flag in (("a", "--isolate"), ("b", "--no-isolate")):
        assert encode(MEDIA / "ax_hlg10.mp4", "-o", tmp_path / name, flag) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_raw_frames_go_in_by_a_pipe(tmp_path):
    command = [sys.executable, "-m", "vidlatent", "encode", "-", "--raw", "64x48:rgb24:25", "-m", "toy"]
    command += ["-o", str(tmp_path / "x.latent"), "--json"]
    run = subprocess.run(command, input=os.urandom(9 * 64 * 48 * 3), capture_output=True, check=True)
    assert json.loads(run.stdout)["frames"] == 9


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("320x240", "no pixel format and no rate"),
        ("320x240:yuv420p", "no rate"),
        (":yuv420p:25", "no size"),
        ("320x240::25", "no pixel format"),
        ("320x240:yuv420p:25:7", "more than"),
        ("320:yuv420p:25", "expected 2 numbers"),
        ("320x240:yuv420p:fast", "--raw fast: not a frame rate"),
        ("320x240:yuv999:25", "unknown pixel format 'yuv999'"),
        ("0x240:yuv420p:25", "no such frames"),
    ],
)
def test_raw_says_what_is_missing(tmp_path, capsys, text, words):
    (tmp_path / "x.yuv").write_bytes(bytes(1000))
    assert encode(tmp_path / "x.yuv", "-o", tmp_path / "x.latent", "--raw", text) == 2
    assert words in capsys.readouterr().err


def test_an_accelerator_that_is_not_there_is_one_clear_error(tmp_path, capsys):
    assert encode(MEDIA / "ax_hlg10.mp4", "-o", tmp_path / "x", "--hwaccel", "abacus") == 2
    err = capsys.readouterr().err
    assert err.count("error:") == 1 and "--hwaccel abacus: not in this build of libav" in err


def test_an_accelerator_without_its_device_is_not_the_videos_fault(tmp_path, capsys):
    from av.codec.hwaccel import HWAccel

    try:  # where the device is there, there is nothing to refuse
        with av.open(str(MEDIA / "ax_hlg10.mp4"), hwaccel=HWAccel("cuda")):
            pytest.skip("this machine has a CUDA device")
    except av.FFmpegError:
        pass
    assert encode(MEDIA / "ax_hlg10.mp4", "-o", tmp_path / "x", "--hwaccel", "cuda") == 2
    err = capsys.readouterr().err
    assert err.count("error:") == 1 and "--hwaccel cuda: no such device works on this machine" in err
    (tmp_path / "broken.mp4").write_bytes(b"no film" * 100)
    assert encode(tmp_path / "broken.mp4", "-o", tmp_path / "x", "--hwaccel", "cuda") == 3
    assert "broken.mp4: not a video" in capsys.readouterr().err


def test_a_video_that_no_accelerator_decodes_is_decoded_and_it_is_said(tmp_path):
    """`drm` is an accelerator of no decoder of MPEG-4 ASP: the pixels are those without it."""
    from av.codec.hwaccel import hwdevices_available

    if "drm" not in hwdevices_available():
        pytest.skip("this libav knows no drm")
    with open_video(MEDIA / "gradio_b.avi", ReadOptions(hwaccel="drm", frames=1)) as video:
        assert "--hwaccel drm cannot decode this video: decoded by software" in video.notices
        (one,) = video.frames()
    with open_video(MEDIA / "gradio_b.avi", ReadOptions(frames=1)) as video:
        assert not any("hwaccel" in notice for notice in video.notices)
        assert np.array_equal(one.rgb, next(video.frames()).rgb)


def test_a_source_is_never_replaced_by_its_latents(tmp_path, capsys):
    """`encode a.mp4 -o a.mp4 --force` did that, without a word."""
    source, other = tmp_path / "a.avi", tmp_path / "b.avi"
    for path in (source, other):
        path.write_bytes((MEDIA / "gradio_b.avi").read_bytes())
    assert encode(source, "-o", source, "--force") == 2
    assert encode(source, "-o", other, "--force") == 2
    told = capsys.readouterr().err
    assert f"{source}: is the input itself" in told and f"{other}: is not a .latent" in told
    assert source.read_bytes() == other.read_bytes() == (MEDIA / "gradio_b.avi").read_bytes()


def test_force_replaces_latents(tmp_path):
    source, target = MEDIA / "gradio_b.avi", tmp_path / "a.latent"
    assert [
        encode(source, "-o", target),
        encode(source, "-o", target),
        encode(source, "-o", target, "--force"),
    ] == [*(0, 2, 0)]


@pytest.mark.parametrize("name", ["a\x1b[2Jb.avi", "clip [red]x.avi", "caf\udce9.avi"])
def test_names_reach_the_terminal_as_words(tmp_path, capsys, name):
    (tmp_path / name).write_bytes((MEDIA / "gradio_b.avi").read_bytes())
    assert encode(tmp_path / name, "-o", tmp_path / f"{name}.latent") == 0
    assert encode(tmp_path / name, "-o", tmp_path / f"{name}.latent") == 2
    assert app.run(["inspect", str(tmp_path / f"{name}.latent")]) == 0
    shown = "".join(capsys.readouterr())
    assert "\x1b" not in shown and shown.encode()
    assert name not in ("clip [red]x.avi",) or name in shown
