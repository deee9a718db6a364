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


def test_neither_a_clip_without_the_baseline_nor_a_failed_row_hides_what_follows():
    first = rows("model", 1, clip="0.mp4")
    failed = replace(rows("model", 50)[0], error="boom")
    unrated = replace(rows("model", 50)[0], bits_per_pixel=0.0)
    psnr = {"psnr": METRICS["psnr"]}
    (found,) = compute_deltas([*first, *rows("codec", 1), *rows("model", 2), failed, unrated], psnr, "codec")
    assert (found.clip, found.left_out) == ("a.mp4", ()) and found.rate_percent == pytest.approx(100)


def test_rows_that_failed_or_have_no_rate_are_no_points_of_a_curve():
    broken = [ReportRow("a.mp4", "x", "codec", "codec", error="boom", bits_per_pixel=1.0)]
    broken += [ReportRow("a.mp4", "y", "codec", "model")]
    found = compute_deltas(rows("codec", 1) + rows("model", 2) + broken, METRICS, "codec")
    assert [round(delta.rate_percent) for delta in found] == [100, 100]


def test_why_curves_cannot_be_compared_is_said():
    far = [replace(row, scores={"psnr": score(90.0 + n)}) for n, row in enumerate(rows("model", 1))]
    (delta,) = compute_deltas(rows("codec", 1) + far, {"psnr": METRICS["psnr"]}, "codec")
    assert delta.rate_percent is None and "ask for rates above, such as 32" in delta.why
    assert "(90 against 39)" in delta.why and "8 bits per pixel" in delta.why


def test_quality_and_rate_are_each_compared_where_they_can_be():
    """A model of much rate has a quality that the codec has too, but no rate that it has."""
    (point,) = rows("model", 100, points=1)
    by_lpips = {"lpips": METRICS["lpips"]}
    (delta,) = compute_deltas(
        [*rows("codec", 1), replace(point, scores={"lpips": score(0.35)})], by_lpips, "codec"
    )
    assert delta.rate_percent == pytest.approx(100 * (100 / 2**1.5 - 1), rel=0.01) and delta.why is None
    assert delta.quality is None
    assert "model takes 100 bits per pixel, codec was measured up to 8" in delta.quality_why


def test_a_model_worse_than_the_lowest_rate_is_told_to_ask_for_lower_ones():
    (point,) = rows("model", 1, points=1)
    worse = replace(point, scores={"lpips": score(0.7)})
    (delta,) = compute_deltas([*rows("codec", 1), worse], {"lpips": METRICS["lpips"]}, "codec")
    assert "(0.7 against 0.5)" in delta.why and "ask for rates below, such as 0.25" in delta.why


def test_rows_that_cost_more_and_are_no_better_are_left_out_of_a_curve():
    """An encoder that aims at two rates may meet one stream, or waste bits: the curve goes on without."""
    same, wasteful = rows("codec", 1)[1], rows("codec", 1)[1]
    same = replace(same, subject="codec as model")
    wasteful = replace(wasteful, subject="wasteful", bits_per_pixel=2.5)
    psnr = {"psnr": METRICS["psnr"]}
    (found,) = compute_deltas([*rows("codec", 1), same, wasteful, *rows("model", 2)], psnr, "codec")
    assert found.rate_percent == pytest.approx(100) and found.left_out == ("wasteful",)


def test_one_rate_is_no_curve():
    found = compute_deltas(rows("codec", 1, points=1) + rows("model", 1), METRICS, "codec")
    assert all("codec has 1 usable rates, a curve needs 2" in delta.why for delta in found)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({"psnr": score(math.inf)}, "model loses nothing, and no rate of a lossy codec is equal to that"),
        ({}, "model has no rate"),
    ],
)
def test_a_model_without_a_point_is_told_why_it_has_none(scores, said):
    rated = [replace(row, scores=scores) for row in rows("model", 1)]
    (delta,) = compute_deltas(rows("codec", 1) + rated, {"psnr": METRICS["psnr"]}, "codec")
    assert delta.rate_percent is None and delta.why == delta.quality_why == said
    assert delta.left_out == tuple(row.subject for row in rated if scores)


def test_rates_below_those_of_the_codec_are_told_what_to_ask_for():
    (delta,) = compute_deltas(rows("codec", 1) + rows("model", 0.01), {"psnr": METRICS["psnr"]}, "codec")
    assert delta.quality is None
    assert "model takes 0.08 bits per pixel, codec was measured from 1 on" in delta.quality_why
    assert delta.quality_why.endswith("ask for lower rates, such as 0.08")
