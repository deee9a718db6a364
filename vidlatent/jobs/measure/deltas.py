"""The BD-rates of a bench: each rate curve against that of one codec, clip by clip and metric by metric."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from vidlatent.errors import BadInput
from vidlatent.jobs.measure.results import Delta, ReportRow
from vidlatent.jobs.measure.score import Definition
from vidlatent.metrics.bd_rate import Curve, bd_quality, bd_rate


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
            anchor = _make_curve(families[baseline], name, definition)
            for other in others:
                curve = _make_curve(families[other], name, definition)
                found.append(_compute_delta(Delta(clip, name, baseline, other), anchor, curve))
    return found


def _group_by_clip(rows: Iterable[ReportRow]) -> Iterator[tuple[str, dict[str, list[ReportRow]]]]:
    """The rows that have a rate, clip by clip and family by family."""
    usable = [row for row in rows if not row.error and row.bits_per_pixel and row.family]
    for clip, group in groupby(sorted(usable, key=lambda row: row.clip), key=lambda row: row.clip):
        families: dict[str, list[ReportRow]] = {}
        for row in group:
            families.setdefault(row.family, []).append(row)
        yield clip, families


def _make_curve(rows: list[ReportRow], metric: str, definition: Definition) -> Curve:
    """(bits per pixel, quality) of rows. Where less is better, quality is the negative of the number."""
    sign = 1 if definition.better == "higher" else -1
    return [(row.bits_per_pixel, sign * row.scores[metric].mean) for row in rows if metric in row.scores]


def _compute_delta(names: Delta, anchor: Curve, curve: Curve) -> Delta:
    facts = (names.clip, names.metric, names.baseline, names.subject)
    try:
        return Delta(*facts, bd_rate(anchor, curve), bd_quality(anchor, curve))
    except BadInput as e:
        return Delta(*facts, why=e.what)
