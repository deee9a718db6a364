import json
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
import torch

from vidlatent.errors import BadInput, UsageError
from vidlatent.metrics import ffmpeg
from vidlatent.metrics.vmaf import Vmaf
from vidlatent.metrics.xpsnr import Xpsnr

EXECUTABLE = imageio_ffmpeg.get_ffmpeg_exe()
FILTERS = ffmpeg.probe(EXECUTABLE).filters
needs_vmaf = pytest.mark.skipif("libvmaf" not in FILTERS, reason="this ffmpeg has no libvmaf")
needs_xpsnr = pytest.mark.skipif("xpsnr" not in FILTERS, reason="this ffmpeg has no xpsnr")


def directly(folder, graph: str, frames: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Run ffmpeg on two files of raw frames, the way its manual shows."""
    inputs = []
    for name, clip in zip(("ref", "dist"), frames, strict=True):
        (folder / name).write_bytes(clip.numpy().tobytes())
        size = f"{clip.shape[2]}x{clip.shape[1]}"
        inputs += ["-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", size, "-i", name]
    graph = f"[0:v]{ffmpeg.COLOUR}{ffmpeg.SHALLOW}[r];[1:v]{ffmpeg.COLOUR}{ffmpeg.SHALLOW}[d];{graph}"
    command = [EXECUTABLE, "-v", "error", *inputs, "-filter_complex", graph, "-f", "null", "-"]
    subprocess.run(command, cwd=folder, check=True)


@needs_vmaf
def test_vmaf_equals_a_direct_run_of_ffmpeg(pair, tmp_path):
    frames = pair(5, 121, 161)
    metric = Vmaf()
    for r, d in zip(frames[0].split(2), frames[1].split(2), strict=True):
        metric.update(r, d)
    directly(tmp_path, "[d][r]libvmaf=log_fmt=json:log_path=log", frames)
    log = json.loads((tmp_path / "log").read_text())
    assert metric.per_frame().tolist() == [frame["metrics"]["vmaf"] for frame in log["frames"]]
    pooled = log["pooled_metrics"]["vmaf"]
    assert metric.result()["mean"] == pytest.approx(pooled["mean"], abs=1e-5)
    assert metric.result()["harmonic"] == pytest.approx(pooled["harmonic_mean"], abs=1e-5)


@needs_xpsnr
def test_xpsnr_equals_a_direct_run_of_ffmpeg(pair, tmp_path):
    frames = pair(5, 121, 161)
    metric = Xpsnr()
    metric.update(*frames)
    directly(tmp_path, "[r][d]xpsnr=stats_file=log", frames)
    lines = (tmp_path / "log").read_text().splitlines()
    expected = [float(line.split()[4]) for line in lines if line.startswith("n:")]
    assert metric.per_frame().tolist() == expected


@needs_vmaf
def test_identical_moving_frames_have_vmaf_100_and_the_first_what_its_protocol_says(pair):
    """The first has no motion and stops at 97.4: a property of the model."""
    reference, _ = pair(4, 120, 160)
    metric = Vmaf()
    metric.update(reference, reference)
    assert metric.per_frame().tolist() == [pytest.approx(97.43, abs=0.01), *[100.0] * 3]
    assert "97.4 where nothing moves" in metric.protocol


@needs_xpsnr
def test_identical_clips_have_infinite_xpsnr(pair):
    reference, _ = pair(3, 64, 64)
    metric = Xpsnr()
    metric.update(reference, reference)
    assert metric.result() == {"mean": np.inf, "worst": np.inf, "u": np.inf, "v": np.inf}


@needs_vmaf
def test_the_protocol_says_which_ffmpeg_scored():
    assert ffmpeg.probe(EXECUTABLE).version in Vmaf().protocol


@needs_vmaf
def test_frames_that_change_size_are_refused(pair):
    metric = Vmaf()
    metric.update(*pair(1, 64, 64))
    with pytest.raises(BadInput, match=r"changed size .* from \(64, 64\) to \(64, 80\)"):
        metric.update(*pair(1, 64, 80))


@needs_vmaf
def test_a_metric_dropped_half_way_leaves_no_process_and_no_folder(pair):
    metric = Vmaf()
    metric.update(*pair(1, 64, 64))
    process, folder = metric._pipe._process, metric._pipe._folder
    del metric
    assert process.returncode is not None
    assert not folder.exists()


def test_what_ffmpeg_says_when_it_stops_reaches_the_user():
    frame = torch.zeros((1, 8, 8, 3), dtype=torch.uint8)
    pipe = ffmpeg.PairPipe(ffmpeg.probe(EXECUTABLE), "[ref][dist]nosuchfilter=a=1", ffmpeg.SHALLOW, frame)
    with pytest.raises(BadInput, match="nosuchfilter"):
        for _ in range(1000):
            pipe.write(frame, frame)
        pipe.finish()


def test_an_ffmpeg_without_the_filter_is_named():
    with pytest.raises(UsageError, match="has no filter libnothing"):
        ffmpeg.find_scorer("libnothing")


def test_an_executable_that_does_not_run_is_named(tmp_path):
    with pytest.raises(UsageError, match="does not run"):
        ffmpeg.probe(str(tmp_path / "ffmpeg"))
