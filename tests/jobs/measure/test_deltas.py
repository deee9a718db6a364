"""Rate curves against the baseline's: which way is better is the metric's own word."""

import math
from dataclasses import replace

import pytest

from vidlatent.jobs.measure.deltas import compute_deltas
from vidlatent.jobs.measure.results import ReportRow
from vidlatent.jobs.measure.score import Definition, Score

METRICS = {
    "psnr": Definition("dB", "higher", ""),
    "lpips": Definition("", "lower", ""),
}


def rows(family: str, rate_factor: float, clip: str = "a.mp4", points: int = 4) -> list[ReportRow]:
    """A curve whose rates are those of the codec times a factor, for the same qualities."""
    return [
        ReportRow(
            *(clip, f"{family} {n}", "codec", family),
            bits_per_pixel=rate_factor * 2.0**n,
            scores={"psnr": score(30.0 + 3 * n), "lpips": score(0.5 - 0.1 * n)},
        )
        for n in range(points)
    ]


def score(mean: float) -> Score:
    return Score({"mean": mean})


@pytest.mark.parametrize(("factor", "percent"), [(0.5, -50), (1, 0), (2, 100)])
def test_half_the_rate_for_the_same_quality_is_half_the_rate_by_every_metric(factor, percent):
    found = compute_deltas(rows("codec", 1) + rows("model", factor), METRICS, "codec")
    assert [(delta.metric, delta.subject) for delta in found] == [("psnr", "model"), ("lpips", "model")]
    for delta in found:
        assert delta.rate_percent == pytest.approx(percent, abs=1e-6) and delta.why is None
        assert delta.quality == 0 or math.copysign(1, delta.quality) == -math.copysign(1, percent)


def test_a_clip_without_the_baseline_has_no_deltas():
    only = rows("model", 1, clip="b.mp4")
    found = compute_deltas(rows("codec", 1) + rows("model", 1) + only, METRICS, "codec")
    assert {delta.clip for delta in found} == {"a.mp4"}


def test_rows_that_failed_or_have_no_rate_are_no_points_of_a_curve():
    broken = [ReportRow("a.mp4", "x", "codec", "codec", error="boom", bits_per_pixel=1.0)]
    broken += [ReportRow("a.mp4", "y", "codec", "model")]
    found = compute_deltas(rows("codec", 1) + rows("model", 2) + broken, METRICS, "codec")
    assert [round(delta.rate_percent) for delta in found] == [100, 100]


def test_why_curves_cannot_be_compared_is_said():
    far = [replace(row, scores={"psnr": score(90.0 + n)}) for n, row in enumerate(rows("model", 1))]
    (delta,) = compute_deltas(rows("codec", 1) + far, {"psnr": METRICS["psnr"]}, "codec")
    assert delta.rate_percent is None and "share no quality" in delta.why
