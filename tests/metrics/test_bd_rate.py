import math

import pytest

from vidlatent.errors import BadInput
from vidlatent.metrics.bd_rate import bd_quality, bd_rate

# Two example pairs that circulate with implementations of VCEG-M33: the first with the spreadsheet-checked
# package bjontegaard (its README), the second with the Matlab and Python ports of the original.
README = (
    [(9487.76, 40.037), (4593.60, 38.615), (2486.44, 36.845), (1358.24, 34.851)],
    [(9787.80, 40.121), (4469.00, 38.651), (2451.52, 36.970), (1356.24, 34.987)],
)
PORTS = (
    [(686.76, 40.28), (309.58, 37.18), (157.11, 34.24), (85.95, 31.42)],
    [(893.34, 40.39), (407.8, 37.21), (204.93, 34.17), (112.75, 31.24)],
)
STORED = [  # curves, method, BD-rate %, BD-PSNR dB: by bjontegaard 1.3.0
    (README, "pchip", -4.417485350589045, 0.11969278542479489),
    (README, "cubic", -4.420462706125383, 0.12040941911451103),
    (PORTS, "pchip", 31.379878202397627, -1.1834724046224592),
    (PORTS, "cubic", 31.3973740549095, -1.1848979217703506),
]


@pytest.mark.parametrize(("curves", "method", "rate", "quality"), STORED)
def test_published_curves_give_the_known_deltas(curves, method, rate, quality):
    assert bd_rate(*curves, method) == pytest.approx(rate, abs=1e-6)
    assert bd_quality(*curves, method) == pytest.approx(quality, abs=1e-6)


@pytest.mark.parametrize("curves", [README, PORTS])
@pytest.mark.parametrize("method", ["pchip", "cubic"])
def test_agrees_with_the_bjontegaard_package(curves, method):
    oracle = pytest.importorskip("bjontegaard", reason="bjontegaard is not installed")
    columns = [list(column) for curve in curves for column in zip(*curve, strict=True)]
    assert bd_rate(*curves, method) == pytest.approx(oracle.bd_rate(*columns, method=method), abs=1e-8)
    assert bd_quality(*curves, method) == pytest.approx(oracle.bd_psnr(*columns, method=method), abs=1e-8)


def test_agrees_with_the_bjontegaard_package_on_uneven_curves():
    oracle = pytest.importorskip("bjontegaard", reason="bjontegaard is not installed")
    anchor = [(10, 20.0), (30, 29.0), (35, 29.2), (200, 33.0), (900, 41.0), (1000, 41.1)]
    test = [(8, 21.0), (70, 30.0), (71, 33.5), (300, 36.0)]
    columns = [list(column) for curve in (anchor, test) for column in zip(*curve, strict=True)]
    expected = oracle.bd_rate(*columns, method="pchip", require_matching_points=False)
    assert bd_rate(anchor, test) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("method", ["pchip", "cubic"])
def test_a_curve_at_half_the_rate_saves_fifty_percent(method):
    anchor = README[0]
    assert bd_rate(anchor, [(rate / 2, q) for rate, q in anchor], method) == pytest.approx(-50)
    assert bd_quality(anchor, [(rate, q + 1.5) for rate, q in anchor], method) == pytest.approx(1.5)


def test_two_points_are_a_line_in_log_rate():
    assert bd_rate([(1, 0.0), (100, 1.0)], [(2, 0.0), (200, 1.0)]) == pytest.approx(100)


@pytest.mark.parametrize(
    ("anchor", "test", "message"),
    [
        ([(1, 30.0)], README[1], "needs 2 points per curve, got 1"),
        ([(1, 30.0), (2, 29.0)], README[1], "quality that rises with rate"),
        ([(1, 30.0), (2, math.inf)], README[1], "finite qualities"),
        ([(1, 30.0), (2, math.nan)], README[1], "finite qualities"),
        ([(0, 30.0), (2, 40.0)], README[1], "positive rates"),
        ([(1, 10.0), (2, 11.0)], README[1], "the curves share no quality"),
    ],
)
def test_curves_that_cannot_be_compared_are_refused(anchor, test, message):
    with pytest.raises(BadInput, match=message):
        bd_rate(anchor, test)


def test_the_original_polynomial_needs_four_points():
    with pytest.raises(BadInput, match=r"BD-rate \(cubic\) needs 4 points"):
        bd_rate(README[0][:3], README[1], "cubic")


def test_a_single_point_is_compared_with_the_curve_at_that_point():
    anchor = [(1, 30.0), (10, 40.0), (100, 50.0)]
    assert bd_rate(anchor, [(20, 40.0)]) == pytest.approx(100)
    assert bd_quality(anchor, [(10, 41.5)]) == pytest.approx(1.5)


def test_a_single_point_beyond_the_curve_is_not_guessed():
    with pytest.raises(BadInput, match="the curves share no quality: 30 to 40 and 41 to 41"):
        bd_rate([(1, 30.0), (10, 40.0)], [(20, 41.0)])


def test_a_lone_point_just_beyond_the_curve_is_met_straight_on():
    """An encoder that aims at a rate may come out a little below: the curve goes on for a tenth of it."""
    anchor = [(1, 30.0), (10, 40.0)]
    assert bd_quality(anchor, [(10.9, 40.0)]) == pytest.approx(-10 * math.log10(1.09))
    assert bd_quality(anchor, [(0.95, 30.0)]) == pytest.approx(-10 * math.log10(0.95))
    for far in (11.1, 0.9):
        with pytest.raises(BadInput, match="share no rate"):
            bd_quality(anchor, [(far, 35.0)])
