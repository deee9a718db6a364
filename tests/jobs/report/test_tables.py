"""Tables of words: what is best in a group, and what is said below."""

from vidlatent.jobs.measure.results import Delta, Report
from vidlatent.jobs.measure.score import Definition
from vidlatent.jobs.report.tables import Table, make_tables

METRICS = {"psnr": Definition("dB", "higher", ""), "lpips": Definition("", "lower", "")}


def test_rate_and_quality_are_tables_of_their_own_with_reasons_below():
    deltas = (
        Delta("a.mp4", "psnr", "x264", "model", 50.0, None, quality_why="model takes 2 bits per pixel"),
        Delta("a.mp4", "lpips", "x264", "model", None, -0.01, why="worse", left_out=("x264 as model",)),
    )
    rate, quality = make_tables(Report("bench", (), METRICS, {}, {}, deltas))
    assert rate.rows == (("model", "x264", "a.mp4", "+50.0 %", "no overlap"),)
    assert quality.rows == (("model", "x264", "a.mp4", "no overlap", "-0.0100"),)
    assert rate.notes == (
        "a.mp4, lpips: worse",
        "a.mp4, lpips: x264 as model left out of the curves: no gain over less",
    )
    assert quality.notes == ("a.mp4, psnr: model takes 2 bits per pixel",)


def test_a_reason_that_holds_for_every_subject_of_a_clip_is_said_once():
    why = "x264 has 1 usable rates"
    deltas = [
        Delta("a.mp4", "psnr", "x264", subject, None, None, why, quality_why=why)
        for subject in ("model", "x265")
    ]
    for table in make_tables(Report("bench", (), METRICS, {}, {}, tuple(deltas))):
        assert table.notes == (f"a.mp4, psnr: {why}",)


def test_best_is_the_largest_or_least_and_nothing_where_all_are_alike():
    table = Table(
        title="",
        headers=("subject", "psnr", "lpips", "frames"),
        rows=(("a",) * 4, ("b",) * 4, ("c",) * 4),
        values=((None, 30.0, 0.1, 5.0), (None, 35.0, 0.1, 6.0), (None, None, 0.2, 7.0)),
        better=(None, "higher", "lower", None),
        groups=("one", "one", "two"),
    )
    assert table.best() == {(1, 1)}
