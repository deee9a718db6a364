"""The plots of a report, as SVG. matplotlib draws them, where it is installed."""

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from vidlatent.errors import UsageError
from vidlatent.jobs.measure.results import Report, ReportRow, Summary, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE_INCHES = (6.0, 4.2)  # small, so that the text is large on a phone
STYLE = {
    "svg.fonttype": "none",  # text stays text: small, sharp, selectable
    "svg.hashsalt": "vidlatent",  # the same report gives the same bytes
    "font.family": "sans-serif",
    "font.size": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.edgecolor": "#888888",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 11,
}


def require_plots() -> None:
    """Raise UsageError where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise UsageError(
            "an HTML report needs matplotlib", 'pip install "vidlatent[report]", or write .md, .csv or .json'
        )


@contextmanager
def _open_axes(x: str, y: str) -> Iterator[tuple["Axes", io.StringIO]]:
    """Empty axes with labels; the SVG is in the buffer after the block."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    svg = io.StringIO()
    with rc_context(STYLE):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot(xlabel=x, ylabel=y)
        yield axes, svg
        figure.legend(loc="outside lower center", ncols=3)
        figure.savefig(svg, format="svg", metadata={"Date": None})


def plot_rate_quality(report: Report, metric: str) -> str | None:
    """Quality over bits per pixel: a line for each curve, a star for a lone point; None without rates."""
    lines = [
        s for s in summarise(report) if s.bits_per_pixel and math.isfinite(s.means.get(metric, math.inf))
    ]
    if not lines:
        return None
    from matplotlib.ticker import LogLocator

    with _open_axes("bits per pixel", _label_axis(report, metric)) as (axes, svg):
        for family in dict.fromkeys(line.family for line in lines if line.family):
            _draw_family(axes, metric, [line for line in lines if line.family == family])
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    return svg.getvalue()


def _draw_family(axes: "Axes", metric: str, lines: Sequence[Summary]) -> None:
    points = sorted((line.bits_per_pixel, line.means[metric]) for line in lines)
    style = {"marker": "o", "markersize": 4} if len(points) > 1 else {"marker": "*", "markersize": 14}
    axes.plot(*zip(*points, strict=True), label=lines[0].family, linewidth=1.6, **style)


def plot_per_frame(report: Report, rows: Iterable[ReportRow], metric: str) -> str | None:
    """One metric over the frames of a clip, a line for each subject; None where it has no such values."""
    drawn = [row for row in rows if metric in row.scores and row.scores[metric].per_frame]
    if not drawn:
        return None
    with _open_axes("frame", _label_axis(report, metric)) as (axes, svg):
        for row in drawn:
            score = row.scores[metric]
            values = [value if math.isfinite(value) else math.nan for value in score.per_frame]
            frames = range(score.first, score.first + len(values))
            mark = {"marker": "o", "markersize": 3} if len(values) < 3 else {}
            axes.plot(frames, values, label=row.subject, linewidth=1.3, **mark)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return svg.getvalue()


def _label_axis(report: Report, metric: str) -> str:
    definition = report.metrics[metric]
    better = "more is better" if definition.better == "higher" else "less is better"
    unit = f" [{definition.unit}]" if definition.unit else ""
    return f"{metric}{unit}, {better}"
