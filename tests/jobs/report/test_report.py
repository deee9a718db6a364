import csv
import io
import json
import math
import re
import shutil
import subprocess
import sys
from base64 import b64decode, b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from importlib.util import find_spec

import av
import numpy as np
import pytest
from helpers.paths import ROOT

from vidlatent.errors import UsageError
from vidlatent.jobs.jpeg import WIDEST, encode_jpeg
from vidlatent.jobs.measure.bench import bench
from vidlatent.jobs.measure.bench_options import BenchOptions
from vidlatent.jobs.report import plots
from vidlatent.jobs.report.details import make_detail_tables
from vidlatent.jobs.report.files import check_targets, write_report
from vidlatent.jobs.report.html import write_html
from vidlatent.jobs.report.tables import format_number, make_tables

SCREENSHOT = ROOT / "bin" / "screenshot-report"
needs_plots = pytest.mark.skipif(find_spec("plotly") is None, reason="plotly is not installed")


@pytest.fixture(scope="module")
def report(toy, write_clip, tmp_path_factory):
    """Two clips, one of which is not there, through a model and a codec."""
    folder = tmp_path_factory.mktemp("clips")
    frames = np.random.default_rng(0).integers(100, 140, (6, 48, 64, 3)).astype(np.uint8)
    asked = BenchOptions(
        metrics=("psnr", "ssim", "flicker"),
        codecs=("x264",),
        rates=(0.5, 1.0),
        runs=1,
        pictures=2,
        play_s=1.0,
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
    assert document["rows"][1]["coding"]["wanted"] == 0.5 and document["rows"][1]["stored"] is None
    assert document["rows"][0]["stored"] == "fp32" and len(document["rows"][0]["times_s"]) == 6
    assert document["rows"][0]["spread"]["encode_s"]["count"] == 1
    assert document["summary"][1]["spread"]["psnr"]["std"] == 0
    (name,) = document["clips"]
    assert name.endswith("a|<b>") and len(document["clips"][name]["sha256"]) == 64
    assert document["machine"]["ffmpeg"]
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
    for said in ("## Spread", "## Codecs", "ffmpeg -f rawvideo", "-crf ", "## Files", "sha256"):
        assert said in text


class Page(HTMLParser):
    """Collects what a page holds, and checks that it points nowhere else."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.media: list[tuple[str, bytes]] = []
        self.scripts: list[str] = []
        self.policy, self.data, self._open = "", None, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        facts = dict(attrs)
        assert tag not in ("link", "iframe", "object", "embed", "base") and "href" not in facts
        assert not any(name.startswith("on") for name in facts)
        if facts.get("http-equiv") == "Content-Security-Policy":
            self.policy = facts["content"]
        if tag == "script":
            assert "src" not in facts
            self._open = facts.get("type", "code")
        elif "src" in facts:
            kind, data = re.fullmatch(r"data:([a-z0-9+/]+);base64,(.*)", facts["src"]).groups()
            assert tag == "video" or facts["alt"]
            self.media.append((kind, b64decode(data)))

    def handle_data(self, data):
        if self._open == "code":
            self.scripts.append(data)
        elif self._open:
            self.data = json.loads(data)

    def handle_endtag(self, tag):
        self._open = None if tag == "script" else self._open


@pytest.fixture(scope="module")
def page(report):
    """The report as a page, with a short stand-in for the library that draws its plots."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vidlatent.jobs.report.html.load_plotly", lambda: "/* </script> */")
        return write_html(replace(report, command="vidlatent bench 'a|<b>' --report r.html"))


def test_a_page_holds_every_picture_and_film_itself(page):
    kinds = [kind for kind, _ in Page(page).media]
    # Of each row: source, reconstruction and difference of its worst frames, and two strips.
    assert kinds.count("image/jpeg") == 2 * (3 * 3 + 2)
    films = [data for kind, data in Page(page).media if kind == "video/mp4"]
    assert len(films) == 2
    for film in films:
        with av.open(io.BytesIO(film)) as opened:
            shown = [(frame.time, frame.width, frame.height) for frame in opened.decode(video=0)]
        assert shown == [(pytest.approx(n / 25, abs=1e-4), 128, 48) for n in range(6)]


def test_a_page_runs_its_own_scripts_and_fetches_nothing(page):
    """Names in a report may be those of files from anywhere: nothing in them can become code."""
    found = Page(page)
    hashes = [b64encode(sha256(script.encode()).digest()).decode() for script in found.scripts]
    assert len(hashes) == 2
    rules = dict(rule.strip().split(" ", 1) for rule in found.policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["media-src"] == "data:"
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in hashes]
    marked_up = re.sub(r"(<script[^>]*>).*?</script>", r"\1", page, flags=re.DOTALL)
    assert "a|&lt;b&gt;" in marked_up and "<b>" not in marked_up
    assert "url(" not in marked_up and "@import" not in marked_up
    (data,) = re.findall(r'<script type="application/json" id="data">(.*)</script>', page)
    assert "<" not in data and Page(page).data["clips"][0]["name"] == "a|<b>"


def test_a_page_says_how_it_was_made(page):
    for said in (
        "vidlatent bench &#x27;a|&lt;b&gt;&#x27; --report r.html",
        "ffmpeg -f rawvideo",
        "Spread",
        "sha256",
        "without pictures",
        "Not in the plot of psnr, where they are infinite: toy.",
    ):
        assert said in page


def test_plots_have_times_rates_and_one_colour_for_each_subject(page):
    data = Page(page).data
    assert [plot["name"] for plot in data["rates"]] == ["psnr", "ssim", "flicker"]
    assert [point["subject"] for point in data["rates"][1]["points"]] == ["x264 0.5 bpp", "x264 1 bpp", "toy"]
    (clip,) = data["clips"]
    assert clip["times"] == [pytest.approx(n / 25, abs=1e-6) for n in range(6)]
    flicker = clip["lines"][1]["scores"]["flicker"]
    assert flicker["first"] == 1 and len(flicker["values"]) == 5
    assert clip["lines"][0]["scores"]["psnr"]["values"] == [None] * 6  # infinite: no point of a line
    colours = {name: tuple(facts["colours"]) for name, facts in data["subjects"].items()}
    assert len(set(colours.values())) == len(colours) == 3
    for name, (light, dark) in colours.items():
        assert f"--light:{light};--dark:{dark}" in page, name


def test_clips_whose_frames_would_swell_the_page_are_named(report, monkeypatch):
    second = [replace(row, clip="b.mp4") for row in report.rows if not row.error]
    both = replace(report, rows=(*report.rows, *second))
    assert plots.list_frame_plots(both)[1] == []
    monkeypatch.setattr(plots, "MOST_VALUES", 60)
    clips, left_out = plots.list_frame_plots(both)
    assert [clip["name"] for clip in clips] == ["a|<b>"] and left_out == ["b.mp4"]


@needs_plots
def test_the_library_of_the_plots_is_in_the_page(report, tmp_path):
    write_report(report, tmp_path / "r.html")
    library, own = Page((tmp_path / "r.html").read_text()).scripts
    assert "plotly.js v" in library[:200] and "Plotly.react" in own
    assert (tmp_path / "r.html").stat().st_size < 8e6


@needs_plots
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_finds_nothing_wrong_with_the_page(report, tmp_path):
    """Both widths, light and dark: no error, nothing missing or too wide, and what can be clicked works."""
    write_report(report, tmp_path / "r.html")
    command = [sys.executable, SCREENSHOT, tmp_path / "r.html", "-o", tmp_path]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    views = [json.loads(line) for line in run.stdout.splitlines()]
    facts = [(view["view"], view["ok"], view["images"], view["films"], view["plots"]) for view in views]
    names = ("desktop-light", "desktop-dark", "phone-light", "phone-dark")
    assert facts == [(name, True, 22, 2, 4) for name in names], run.stdout + run.stderr
    assert all((tmp_path / f"{view['view']}.png").stat().st_size > 10_000 for view in views)


def test_jpeg_pictures_are_true_and_not_too_wide():
    rgb = np.full((8, 2 * WIDEST, 3), (200, 30, 90), np.uint8)
    with av.open(io.BytesIO(encode_jpeg(rgb))) as image:
        shown = next(image.decode(video=0)).to_ndarray(format="rgb24")
    assert shown.shape == (4, WIDEST, 3)
    assert np.abs(shown.astype(int) - (200, 30, 90)).max() <= 3


def test_without_plotly_the_way_out_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("vidlatent.jobs.report.plots.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs plotly\nhint: pip install \"vidlatent\[report\]\""):
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
    if suffix == ".html":
        pytest.importorskip("plotly")
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


def test_the_best_of_a_column_is_marked_inside_its_group(report):
    summary = make_tables(report)[0]
    assert summary.groups == ("models", "codecs", "codecs")
    column = {name: n for n, name in enumerate(summary.headers)}
    best = summary.best()
    assert {row for row, n in best if n == column["ssim ↑"]} == {2}  # of the codecs; a lone model is not best
    assert {row for row, n in best if n == column["bits/pixel"]} == {1}
    assert column["latents"] == 1 and [row[1] for row in summary.rows] == ["fp32", "-", "-"]


def test_numbers_have_their_spread_over_frames_and_runs_of_one_clip(report):
    spread, codecs, files = make_detail_tables(report)
    lines = {(line[0], line[1]): line[2:] for line in spread.rows}
    score = report.rows[1].scores["psnr"]
    assert lines["x264 0.5 bpp", "psnr dB"][0] == "6 frames"
    assert lines["x264 0.5 bpp", "psnr dB"][1:] == tuple(
        map(
            format_number,
            (score.mean, np.std(score.per_frame, ddof=1), min(score.per_frame), max(score.per_frame)),
        )
    )
    assert (
        lines["toy", "encode s"][0] == "1 runs" and ("toy", "psnr dB") not in lines
    )  # infinite in every frame
    assert [line[:2] for line in codecs.rows] == [("x264 0.5 bpp", "a|<b>"), ("x264 1 bpp", "a|<b>")]
    assert len(files.rows) == 1


def test_numbers_of_several_clips_have_their_spread_over_the_clips(report):
    second = [replace(row, clip="b.mp4") for row in report.rows if not row.error]
    spread = make_detail_tables(replace(report, rows=(*report.rows, *second)))[0]
    lines = {(line[0], line[1]): line for line in spread.rows}
    assert lines["x264 0.5 bpp", "psnr dB"][2] == "2 clips" and lines["x264 0.5 bpp", "psnr dB"][4] == "0.000"
    assert lines["toy", "encode fps"][2] == "2 runs"
