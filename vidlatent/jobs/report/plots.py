"""The plots of a report, as plain values that the page's script draws with plotly.js, and that library."""

import math
from collections.abc import Iterable
from importlib.util import find_spec

from vidlatent.errors import UsageError
from vidlatent.jobs.measure.results import Report, ReportRow, summarise
from vidlatent.jobs.report.colours import pick_colours
from vidlatent.jobs.report.tables import name_clips

MOST_VALUES = 300_000  # numbers of frames that a page may hold: about 3 MB


def require_plots() -> None:
    """Raise UsageError where plotly is not installed."""
    if find_spec("plotly") is None:
        raise UsageError(
            "an HTML report needs plotly", 'pip install "vidlatent[report]", or write .md, .csv or .json'
        )


def load_plotly() -> str:
    """The source of plotly.js, which the Python package carries."""
    require_plots()
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def describe_subjects(report: Report) -> dict[str, dict[str, object]]:
    """Family, kind and colours of every subject, by its name."""
    families: dict[str, dict[str, ReportRow]] = {}
    for row in report.rows:
        families.setdefault(row.family or row.subject, {}).setdefault(row.subject, row)
    colours = pick_colours([list(family) for family in families.values()])
    return {
        name: {"family": family, "kind": row.kind, "colours": colours[name]}
        for family, rows in families.items()
        for name, row in rows.items()
    }


def list_rate_plots(report: Report) -> list[dict[str, object]]:
    """Quality over bits per pixel, a plot for each metric: points in the order of their rates."""
    plots = []
    for name in report.metrics:
        lines = [line for line in summarise(report) if line.bits_per_pixel]
        lines = [line for line in lines if math.isfinite(line.means.get(name, math.inf))]
        lines.sort(key=lambda line: line.bits_per_pixel)
        points = [{"subject": s.subject, "x": s.bits_per_pixel, "y": s.means[name]} for s in lines]
        if points:
            plots.append({"name": name, "label": label_metric(report, name), "points": points})
    return plots


def name_missing_points(report: Report, plots: Iterable[dict]) -> list[str]:
    """What no plot of rates shows, and why: a sentence for each metric."""
    said = []
    lines = [line for line in summarise(report) if line.clips]
    unrated = [line.subject for line in lines if not line.bits_per_pixel]
    if unrated and len(unrated) < len(lines):
        said.append(f"Without a rate, so not in these plots: {', '.join(unrated)}.")
    drawn = {plot["name"]: {point["subject"] for point in plot["points"]} for plot in plots}
    for name in report.metrics:
        rated = [line.subject for line in lines if line.bits_per_pixel and name in line.means]
        if missing := [subject for subject in rated if subject not in drawn.get(name, ())]:
            said.append(f"Not in the plot of {name}, where they are infinite: {', '.join(missing)}.")
    return said


def list_frame_plots(report: Report) -> tuple[list[dict[str, object]], list[str]]:
    """The scores of every frame, clip by clip, and the clips that a page of bounded size leaves out."""
    clips: list[dict[str, object]] = []
    left_out, held, name_of = [], 0, name_clips(report)
    for path in dict.fromkeys(row.clip for row in report.rows if not row.error):
        lines = [_describe_frames(row) for row in report.rows if row.clip == path and not row.error]
        lines = [line for line in lines if line["scores"]]
        size = sum(len(score["values"]) for line in lines for score in line["scores"].values())
        if not lines:
            continue
        if clips and held + size > MOST_VALUES:
            left_out.append(name_of(path))
            continue
        held += size
        times = max((row.times_s for row in report.rows if row.clip == path), key=len)
        clips.append({"name": name_of(path), "times": [round(t, 6) for t in times], "lines": lines})
    return clips, left_out


def _describe_frames(row: ReportRow) -> dict[str, object]:
    scores = {
        name: {"first": score.first, "values": [_shorten(value) for value in score.per_frame]}
        for name, score in row.scores.items()
        if score.per_frame
    }
    return {"subject": row.subject, "scores": scores}


def _shorten(value: float) -> float | None:
    """Five digits, which no plot shows all of; null is a gap in the line."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def label_metric(report: Report, metric: str) -> str:
    """A metric with its unit, and which of its numbers are better."""
    definition = report.metrics[metric]
    better = "more is better" if definition.better == "higher" else "less is better"
    unit = f" [{definition.unit}]" if definition.unit else ""
    return f"{metric}{unit}, {better}"
