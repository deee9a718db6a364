"""Bjøntegaard deltas (VCEG-M33): how much less rate for the same quality, or more quality for the same rate.

Both integrate the gap between two rate–quality curves over what they share, in log10 of the rate. `pchip`
(monotone piecewise cubics, as in the JCT-VC and JVET spreadsheets) never overshoots and is the default;
`cubic` is the single third-order polynomial of the original paper. Where `test` is one point, the result is
the gap at that point; its rate may lie beyond the curve's by `REACH`, as an encoder that aims at a rate does
not hit it exactly.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from vidlatent.errors import BadInput

Curve = Sequence[tuple[float, float]]  # (rate > 0, quality where more is better), in any order
Method = Literal["pchip", "cubic"]
Function = Callable[[np.ndarray], np.ndarray]
REACH = 0.1  # of a rate: so far is a curve continued, straight on, to meet a lone point
_LEAST = {"pchip": 2, "cubic": 4}


def bd_rate(anchor: Curve, test: Curve, method: Method = "pchip") -> float:
    """Mean change of rate at equal quality, in percent: -20 means `test` needs a fifth less than `anchor`."""
    gap = _mean_gap(*(points[:, ::-1] for points in _pair_curves(anchor, test, method)), method, "quality")
    return (10**gap - 1) * 100


def bd_quality(anchor: Curve, test: Curve, method: Method = "pchip") -> float:
    """Mean change of quality at equal rate, in the metric's unit (BD-PSNR where quality is PSNR)."""
    return _mean_gap(*_pair_curves(anchor, test, method), method, "rate")


def _pair_curves(anchor: Curve, test: Curve, method: Method) -> tuple[np.ndarray, np.ndarray]:
    """Both curves as points; only the second may be a single one."""
    return _to_points(anchor, method), _to_points(test, method, single=True)


def _to_points(curve: Curve, method: Method, single: bool = False) -> np.ndarray:
    """Points [n, 2] of log10 rate and quality, both increasing; raises where the curve is none."""
    points = np.array(sorted(curve), dtype=np.float64).reshape(-1, 2)
    if len(points) < _LEAST[method] and not (single and len(points) == 1):
        raise BadInput(
            f"BD-rate ({method}) needs {_LEAST[method]} points per curve, got {len(points)}",
            "measure more rates",
        )
    if not np.isfinite(points).all() or (points[:, 0] <= 0).any():
        raise BadInput(f"BD-rate needs finite qualities at positive rates, got {points.tolist()}")
    if (np.diff(points, axis=0) <= 0).any():
        raise BadInput(
            f"BD-rate needs quality that rises with rate, got {points.tolist()}",
            "drop the points that are no gain",
        )
    points[:, 0] = np.log10(points[:, 0])
    return points


def _mean_gap(anchor: np.ndarray, test: np.ndarray, method: Method, axis: str) -> float:
    """Mean of `test` minus `anchor` ([n, 2]: abscissa, value) over the abscissas that both cover."""
    low, high = max(anchor[0, 0], test[0, 0]), min(anchor[-1, 0], test[-1, 0])
    slack = np.log10(1 + REACH) if axis == "rate" and len(test) == 1 else 0.0
    if low > high + slack or (low == high and len(test) > 1):
        spans = [f"{curve[0, 0]:.4g} to {curve[-1, 0]:.4g}" for curve in (anchor, test)]
        raise BadInput(f"the curves share no {axis}: {spans[0]} and {spans[1]}", "measure rates that overlap")
    if len(test) == 1:
        return float(test[0, 1] - _fit_curve(anchor, method)(test[:, 0])[0])
    first, second = (_integrate(curve, method, low, high) for curve in (anchor, test))
    return float((second - first) / (high - low))


def _integrate(curve: np.ndarray, method: Method, low: float, high: float) -> float:
    """The exact integral: every piece is a cubic, and Simpson's rule is exact for cubics."""
    x, function = curve[:, 0], _fit_curve(curve, method)
    inner = x[(x > low) & (x < high)]
    knots = np.array([low, *inner, high])
    a, b = knots[:-1], knots[1:]
    return float(((b - a) / 6 * (function(a) + 4 * function((a + b) / 2) + function(b))).sum())


def _fit_curve(curve: np.ndarray, method: Method) -> Function:
    """The curve through the points, or with `cubic` the third-order polynomial nearest to them."""
    x, y = curve.T
    return _fit_pchip(x, y) if method == "pchip" else np.polynomial.Polynomial.fit(x, y, 3)


def _fit_pchip(x: np.ndarray, y: np.ndarray) -> Function:
    """Monotone piecewise cubic Hermite interpolant (Fritsch and Carlson 1980); x increases."""
    step = np.diff(x)
    slope = np.diff(y) / step
    tangent = _tangents(step, slope)

    def at(where: np.ndarray) -> np.ndarray:
        inside = np.clip(where, x[0], x[-1])
        i = np.clip(np.searchsorted(x, inside, side="right") - 1, 0, len(step) - 1)
        t, h = (inside - x[i]) / step[i], step[i]
        rise = y[i + 1] - y[i]
        left, right = h * tangent[i] - rise, rise - h * tangent[i + 1]
        beyond = (where - inside) * np.where(where < x[0], tangent[0], tangent[-1])
        return y[i] + t * rise + t * (1 - t) * (left * (1 - t) + right * t) + beyond

    return at


def _tangents(step: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Slopes at the points: weighted harmonic means inside, a three-point formula at the ends."""
    if len(slope) == 1:
        return np.repeat(slope, 2)
    w1, w2 = 2 * step[1:] + step[:-1], step[1:] + 2 * step[:-1]
    inside = (w1 + w2) / (w1 / slope[:-1] + w2 / slope[1:])
    return np.array([_end_tangent(step[:2], slope[:2]), *inside, _end_tangent(step[:-3:-1], slope[:-3:-1])])


def _end_tangent(step: np.ndarray, slope: np.ndarray) -> float:
    """Slope at an end from the two pieces next to it, nearest first; slopes are positive."""
    tangent = ((2 * step[0] + step[1]) * slope[0] - step[0] * slope[1]) / step.sum()
    return float(max(tangent, 0.0))
