import csv
import io
import json
import math
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from html.parser import HTMLParser
from importlib.util import find_spec
from xml.etree import ElementTree

import av
import numpy as np
import pytest
from helpers.paths import ROOT

from vidlatent.errors import UsageError
from vidlatent.jobs.measure.bench import bench
from vidlatent.jobs.measure.bench_options import BenchOptions
from vidlatent.jobs.report.files import check_targets, write_report
from vidlatent.jobs.report.html import WIDEST, encode_jpeg
from vidlatent.jobs.report.plots import plot_per_frame
from vidlatent.jobs.report.tables import format_number, make_tables

SCREENSHOT = ROOT / "bin" / "screenshot-report"
needs_plots = pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")


@pytest.fixture(scope="module")
def report(toy, write_clip, tmp_path_factory):
    """Two clips, one of which is not there, through a model and a codec."""
    folder = tmp_path_factory.mktemp("clips")
    frames = np.random.default_rng(0).integers(100, 140, (6, 48, 64, 3)).astype(np.uint8)
    asked = BenchOptions(
        metrics=("psnr", "ssim", "flicker"), codecs=("x264",), rates=(0.5, 1.0), runs=1, pictures=2
    )
    return bench([write_clip(folder / "a|<b>", frames), folder / "gone.mp4"], [toy], asked)


def test_json_is_strict_versioned_and_complete(report, tmp_path):
    write_report(report, tmp_path / "r.json")
    document = json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)
    assert (document["format"], document["schema"], document["kind"]) == ("vidlatent-report", 1, "bench")
    assert document["rows"][0]["scores"]["psnr"]["values"]["mean"] == "inf"
    assert len(document["rows"]) == 6 and document["rows"][3]["error"].endswith("no such file")
    assert len(document["rows"][0]["scores"]["flicker"]["per_frame"]) == 5
    assert "σ 1.5" in document["metrics"]["ssim"]["protocol"]
    assert document["machine"]["torch"] and document["settings"]["models"]["toy"]["latents"] == "fp32"


def test_csv_has_a_line_for_each_row(report, tmp_path):
    write_report(report, tmp_path / "r.csv")
    lines = list(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text())))
    assert [line["subject"] for line in lines[:3]] == ["toy", "x264 0.5 bpp", "x264 1 bpp"]
    assert lines[0]["psnr"] == "inf" and float(lines[1]["psnr"]) > 20
    assert lines[3]["psnr"] == "" and lines[3]["error"].endswith("no such file")


def test_markdown_tables_keep_their_columns(report, tmp_path):
    write_report(report, tmp_path / "r.md")
    text = (tmp_path / "r.md").read_text()
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1
    assert "gone.mp4" in text and "peak 255" in text


class Page(HTMLParser):
    """Collects the images of a page, and checks that it fetches nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[tuple[str, bytes]] = []

    def handle_starttag(self, tag, attrs):
        facts = dict(attrs)
        assert tag not in ("script", "link", "iframe") and "href" not in facts
        if tag == "img":
            kind, data = re.fullmatch(r"data:image/([a-z+]+);base64,(.*)", facts["src"]).groups()
            assert facts["alt"]
            self.images.append((kind, b64decode(data)))


@needs_plots
def test_html_holds_every_plot_and_picture_itself(report, tmp_path):
    write_report(report, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    page = Page()
    page.feed(text)
    plots = [data for kind, data in page.images if kind == "svg+xml"]
    pictures = [data for kind, data in page.images if kind == "jpeg"]
    assert len(plots) == 3 + 3  # rate and frames, for each metric
    assert len(pictures) == 2 * (3 * 3 + 2)  # rows × (worst × (source, reconstruction, difference), strips)
    assert all(ElementTree.fromstring(plot).tag.endswith("svg") for plot in plots)
    assert "a|&lt;b&gt;" in text and "<b>" not in text
    assert "url(" not in text and "@import" not in text


@needs_plots
def test_the_same_numbers_are_the_same_plot(report):
    assert plot_per_frame(report, report.rows[:3], "psnr") == plot_per_frame(report, report.rows[:3], "psnr")


@needs_plots
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_finds_nothing_wrong_with_the_page(report, tmp_path):
    """At desktop and phone width: no console error, every picture loads, nothing wider than the screen."""
    write_report(report, tmp_path / "r.html")
    command = [sys.executable, SCREENSHOT, tmp_path / "r.html", "-o", tmp_path]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    views = [json.loads(line) for line in run.stdout.splitlines()]
    assert [(view["view"], view["ok"], view["images"]) for view in views] == [
        ("desktop", True, 28),
        ("phone", True, 28),
    ], run.stderr
    assert all((tmp_path / f"{view['view']}.png").stat().st_size > 10_000 for view in views)


def test_jpeg_pictures_are_true_and_not_too_wide():
    rgb = np.full((8, 2 * WIDEST, 3), (200, 30, 90), np.uint8)
    with av.open(io.BytesIO(encode_jpeg(rgb))) as image:
        shown = next(image.decode(video=0)).to_ndarray(format="rgb24")
    assert shown.shape == (4, WIDEST, 3)
    assert np.abs(shown.astype(int) - (200, 30, 90)).max() <= 3


def test_without_matplotlib_the_way_out_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("vidlatent.jobs.report.plots.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs matplotlib\nhint: pip install \"vidlatent\[report\]\""):
        check_targets([tmp_path / "r.html"])


def test_targets_are_checked_before_the_work(tmp_path):
    with pytest.raises(UsageError, match=r"r\.pdf: no such kind of report\nhint: there are \.json"):
        check_targets([tmp_path / "r.pdf"])
    (tmp_path / "r.json").touch()
    with pytest.raises(UsageError, match="exists already"):
        check_targets([tmp_path / "r.json"])


@pytest.mark.parametrize("suffix", [".json", ".csv", ".md", ".html"])
def test_force_replaces_reports_and_nothing_else(report, tmp_path, suffix):
    path = tmp_path / f"r{suffix}"
    for _ in range(2):
        write_report(report, path, force=True)
    path.write_text("path,caption\na.mp4,a cat\n")
    with pytest.raises(UsageError, match="is not a report of vidlatent, and force replaces nothing else"):
        check_targets([path], force=True)


def test_columns_that_say_nothing_are_left_out(report):
    summary, *_, failed = make_tables(report)
    assert summary.title == "Summary" and "peak device" not in summary.headers
    assert failed.rows[0][0] == "gone.mp4" or failed.rows[0][0].endswith("gone.mp4")
    assert failed.rows[0][2] == "toy, x264 0.5 bpp, x264 1 bpp"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (math.inf, "∞"),
        (0.0, "0.000"),
        (23.529759, "23.53"),
        (1234.0, "1234"),
        (0.000745, "0.0007450"),
    ],
)
def test_numbers_have_four_digits(value, shown):
    assert format_number(value) == shown
