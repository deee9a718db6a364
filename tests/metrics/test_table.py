import subprocess
import sys

import pytest
import torch

from vidlatent.errors import UsageError
from vidlatent.metrics.table import METRICS, make_metrics

WITHOUT_FILE = [name for name, offer in METRICS.items() if not offer.file]


@pytest.mark.parametrize("name", WITHOUT_FILE)
def test_a_metric_is_made_by_its_name_and_says_how_it_measures(name):
    try:
        (metric,) = make_metrics([name])
    except UsageError as e:
        pytest.skip(str(e))
    assert metric.name == name
    assert metric.better in ("higher", "lower")
    assert "RGB" in metric.protocol


@pytest.mark.parametrize("name", ["psnr", "ssim", "ms-ssim", "lpips", "flicker", "vmaf", "xpsnr"])
def test_deep_frames_score_as_the_same_picture_in_8_bits(name, pair):
    """Times 257 is the same picture in 16 bits; on the way to YUV it is only rounded otherwise."""
    try:
        shallow, deep = make_metrics([name, name])
    except UsageError as e:
        pytest.skip(str(e))
    frames = pair(2, 180, 180)
    shallow.update(*frames)
    deep.update(*((clip.int() * 257).to(torch.uint16) for clip in frames))
    loose = {"vmaf": 2.0, "xpsnr": 0.5}
    assert deep.per_frame() == pytest.approx(shallow.per_frame(), abs=loose.get(name, 1e-6))


def test_an_unknown_metric_lists_those_there_are():
    with pytest.raises(UsageError, match=r"pnsr: no such metric\nhint: there are psnr, ssim"):
        make_metrics(["pnsr"])


def test_a_metric_that_needs_a_file_says_which_option_gives_it():
    with pytest.raises(UsageError, match="add files fvd=PATH"):
        make_metrics(["psnr", "fvd"])


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"i3d\.pt: no such file, given for fvd"):
        make_metrics(["fvd"], {"fvd": tmp_path / "i3d.pt"})


def test_the_table_does_not_import_torch():
    code = "import sys, vidlatent.metrics.table; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
