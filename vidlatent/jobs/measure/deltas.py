"""The BD-rates of a bench: each rate curve against that of one codec, clip by clip and metric by metric."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from vidlatent.errors import BadInput
from vidlatent.jobs.measure.results import Delta, ReportRow
from vidlatent.jobs.measure.score import Definition
from vidlatent.metrics.bd_rate import bd_quality, bd_rate


@dataclass(frozen=True)
class RateCurve:
    """The points of one family of rows, by one metric: bits per pixel and quality, both increasing.

    Where less of the metric is better, quality is its negative. `left_out` are the rows that are no points:
    those that a smaller one equals or beats, and those whose number is infinite.
    """

    points: tuple[tuple[float, float], ...]
    left_out: tuple[str, ...]
    endless: bool  # some row lost nothing, so that its number is infinite

    @classmethod
    def of(cls, rows: Iterable[ReportRow], metric: str, definition: Definition) -> "RateCurve":
        """The curve of rows with a rate; those without the metric do not count."""
        sign = 1 if definition.better == "higher" else -1
        known = [row for row in rows if metric in row.scores]
        known.sort(key=lambda row: (row.bits_per_pixel, -sign * row.scores[metric].mean))
        points, left_out = [], []
        for row in known:
            point = (row.bits_per_pixel, sign * row.scores[metric].mean)
            if math.isfinite(point[1]) and (not points or _rises(points[-1], point)):
                points.append(point)
            elif not points or point != points[-1]:  # an equal one is the same stream, found twice
                left_out.append(row.subject)
        endless = any(math.isinf(row.scores[metric].mean) for row in known)
        return cls(tuple(points), tuple(left_out), endless)


def compute_deltas(
    rows: Iterable[ReportRow], metrics: Mapping[str, Definition], baseline: str
) -> list[Delta]:
    """Compare every family of rows, a curve or a point, with the curve of `baseline` on the same clip."""
    found = []
    for clip, families in _group_by_clip(rows):
        if baseline not in families:
            continue
        others = [name for name in families if name != baseline]
        for name, definition in metrics.items():
            anchor = RateCurve.of(families[baseline], name, definition)
            for other in others:
                curve = RateCurve.of(families[other], name, definition)
                found.append(_compute_delta(Delta(clip, name, baseline, other), anchor, curve))
    return found


def _rises(last: tuple[float, float], point: tuple[float, float]) -> bool:
    return point[0] > last[0] and point[1] > last[1]


def _group_by_clip(rows: Iterable[ReportRow]) -> Iterator[tuple[str, dict[str, list[ReportRow]]]]:
    """The rows that have a rate, clip by clip and family by family."""
    usable = [row for row in rows if not row.error and row.bits_per_pixel and row.family]
    for clip, group in groupby(sorted(usable, key=lambda row: row.clip), key=lambda row: row.clip):
        families: dict[str, list[ReportRow]] = {}
        for row in group:
            families.setdefault(row.family, []).append(row)
        yield clip, families


def _compute_delta(names: Delta, anchor: RateCurve, curve: RateCurve) -> Delta:
    """Rate and quality, each for itself: curves that share qualities need not share rates."""
    rate, why = _try(bd_rate, names, anchor, curve)
    quality, quality_why = _try(bd_quality, names, anchor, curve)
    return Delta(
        *(names.clip, names.metric, names.baseline, names.subject),
        rate_percent=rate,
        quality=quality,
        why=why,
        quality_why=quality_why,
        left_out=(*anchor.left_out, *curve.left_out),
    )


def _try(
    compare: Callable[..., float], names: Delta, anchor: RateCurve, curve: RateCurve
) -> tuple[float | None, str | None]:
    """The number, or why there is none and what to ask for."""
    try:
        return compare(anchor.points, curve.points), None
    except BadInput as e:
        return None, _explain(compare, names, anchor, curve) or e.what


def _explain(compare: Callable[..., float], names: Delta, anchor: RateCurve, curve: RateCurve) -> str | None:
    """In the words of the report, why two curves cannot be compared, and what to ask for; None: elsewise."""
    if not curve.points:
        lossless = (
            "loses nothing, and no rate of a lossy codec is equal to that" if curve.endless else "has no rate"
        )
        return f"{names.subject} {lossless}"
    if len(anchor.points) < 2:
        return f"{names.baseline} has {len(anchor.points)} usable rates, a curve needs 2: ask for more rates"
    if compare is bd_quality:
        return _explain_rates(names, *([rate for rate, _ in side.points] for side in (anchor, curve)))
    return _explain_qualities(names, anchor, [quality for _, quality in curve.points])


def _explain_rates(names: Delta, anchor: list[float], curve: list[float]) -> str | None:
    if min(curve) > max(anchor):
        far = f"takes {min(curve):.4g} bits per pixel, {names.baseline} was measured up to {max(anchor):.4g}"
        return f"{names.subject} {far}: ask for higher rates, such as equal, unless those are its finest"
    if max(curve) < min(anchor):
        far = f"takes {max(curve):.4g} bits per pixel, {names.baseline} was measured from {min(anchor):.4g}"
        return f"{names.subject} {far} on: ask for lower rates, such as {max(curve):.3g}"
    return None


def _explain_qualities(names: Delta, anchor: RateCurve, curve: list[float]) -> str | None:
    (low, floor), (high, ceiling) = anchor.points[0], anchor.points[-1]
    if max(curve) < floor:
        seen = f"is worse than what {names.baseline} has at its lowest rate, {low:.4g} bits per pixel"
        return f"{_name_quality(names, max(curve), floor)} {seen}: ask for rates below, such as {low / 4:.3g}"
    if min(curve) > ceiling:
        seen = f"is better than what {names.baseline} has at its highest rate, {high:.4g} bits per pixel"
        return (
            f"{_name_quality(names, min(curve), ceiling)} {seen}: ask for rates above, such as {high * 4:.3g}"
        )
    return None


def _name_quality(names: Delta, own: float, bound: float) -> str:
    """Two qualities as the metric writes them: those where less is better are negative in curves."""
    return f"the {names.metric} of {names.subject} ({abs(own):.4g} against {abs(bound):.4g})"
