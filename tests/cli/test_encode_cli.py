"""`encode` as people call it: bare frames down a pipe, decoders that crash."""

import io
import json
import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import video_clips, warm
from helpers.paths import MEDIA

from vidlatent.cli import app
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.read import intake
from vidlatent.io.read.source import ReadOptions, open_video
from vidlatent.io.write.images import encode_image

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
    command = ["-m", "vidlatent", "encode", "-", "--raw", "64x48:rgb24:25", "-m", "toy"]
    command += ["-o", tmp_path / "x.latent", "--json"]
    run = warm.run(command, input=os.urandom(9 * 64 * 48 * 3), capture_output=True, check=True)
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


def feed(pipe: Path, data: bytes) -> Path:
    """A pipe with a name, as `<(command)` gives one, into which somebody writes."""
    os.mkfifo(pipe)

    def write() -> None:
        with suppress(BrokenPipeError):
            pipe.write_bytes(data)

    threading.Thread(target=write, daemon=True).start()
    return pipe


def give_stdin(monkeypatch, data: bytes) -> str:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    return "-"


@pytest.mark.parametrize("isolate", ["--isolate", "--no-isolate"])
def test_a_film_goes_in_by_a_pipe(tmp_path, monkeypatch, capsys, isolate):
    film = MEDIA / "pyfeat_no_face.mp4"
    assert encode(film, "-o", tmp_path / "file.latent") == 0
    pipes = (feed(tmp_path / "pipe", film.read_bytes()), give_stdin(monkeypatch, film.read_bytes()))
    for n, pipe in enumerate(pipes):
        capsys.readouterr()
        assert encode(pipe, "-o", tmp_path / f"{n}.latent", isolate) == 0
        assert "note: read from a pipe by way of a temporary file of 0." in capsys.readouterr().err
        with open_latent(tmp_path / "file.latent") as a, open_latent(tmp_path / f"{n}.latent") as b:
            assert b.header.source.file == "-" and b.header.source.sha256 == a.header.source.sha256
            assert a.read(0, a.frames).equal(b.read(0, b.frames)) and a.clock == b.clock
            assert a.has_audio == b.has_audio


def test_frames_that_follow_each_other_need_no_temporary_file(tmp_path, monkeypatch):
    y4m = b"YUV4MPEG2 W64 H48 F25:1 C420\n" + (b"FRAME\n" + bytes(64 * 48 * 3 // 2)) * 5
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", None)
    for n, pipe in enumerate((feed(tmp_path / "pipe", y4m), give_stdin(monkeypatch, y4m))):
        assert encode(pipe, "-o", tmp_path / f"{n}.latent") == 0
        with open_latent(tmp_path / f"{n}.latent") as latents:
            assert latents.header.source.frames == 5


def test_a_pipe_without_end_is_given_up_and_nothing_is_left(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(intake, "MOST_BYTES", 3 << 20)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert encode(feed(tmp_path / "pipe", bytes(8 << 20)), "-o", tmp_path / "x.latent") == 5
    assert f"{tmp_path}/pipe: more than 0.00 GB came through the pipe" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_what_comes_by_a_pipe_is_blamed_by_the_name_of_the_pipe(tmp_path, monkeypatch, capsys):
    assert encode(give_stdin(monkeypatch, b"no film" * 99), "-o", tmp_path / "x.latent") == 3
    assert "error: -: not a video" in capsys.readouterr().err


def test_a_device_is_no_video(tmp_path, capsys):
    assert encode("/dev/zero", "-o", tmp_path / "x.latent") == 3
    assert "error: /dev/zero: a pipe or a device, no file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_too_little_memory_for_one_of_several_spares_the_others(tmp_path, monkeypatch, capsys, error):
    from vidlatent.jobs import encode as job

    def starved(source, *rest, real=job.encode):
        if "hlg" in str(source):
            raise error
        return real(source, *rest)

    monkeypatch.setattr(job, "encode", starved)
    films = (MEDIA / "ax_hlg10.mp4", MEDIA / "gradio_b.avi")
    assert encode(*films, "-o", f"{tmp_path}/out/", "--no-isolate") == 1
    assert "ax_hlg10.mp4: out of memory" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["gradio_b.latent"]


def test_frames_that_are_given_one_by_one_are_told(tmp_path, capsys):
    frames = [tmp_path / f"f{n:03d}.png" for n in range(9)]
    for n, path in enumerate(frames):
        path.write_bytes(encode_image(video_clips.scene(n, (64, 48))))
    assert encode(*frames, "-o", f"{tmp_path}/out/", "--no-isolate") == 0
    told = capsys.readouterr().err
    assert f"note: {tmp_path}: 9 numbered images (f#.png), each taken for a clip of one frame" in told
    assert told.count("give their folder") == 1
