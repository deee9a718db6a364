"""A report as tables of words. The terminal, Markdown and HTML each draw them in their own way."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vidlatent.jobs.measure.results import Delta, Report, Summary, summarise
from vidlatent.metrics.base import Better


@dataclass(frozen=True)
class Column:
    """The cells of a column as words; where they are numbers, also as such, and which of them are better."""

    cells: Sequence[str]
    values: Sequence[float | None] = ()
    better: Better | None = None


@dataclass(frozen=True)
class Table:
    """Headers and rows of words; columns from `numbers_from` on hold numbers. `notes` stand below.

    `values` are the numbers in the cells, None where there is none. `better` says for each column which of
    its numbers are better, and `groups` for each row what it belongs to; both may be empty.
    """

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers_from: int = 1
    notes: tuple[str, ...] = ()
    values: tuple[tuple[float | None, ...], ...] = ()
    better: tuple[Better | None, ...] = ()
    groups: tuple[str, ...] = ()

    def turned(self) -> "Table":
        """The same table on its side, for few rows of many columns."""
        lines = list(zip(self.headers, *self.rows, strict=True))
        return Table(self.title, lines[0], tuple(lines[1:]), notes=self.notes)

    def best(self) -> set[tuple[int, int]]:
        """Row and column of the best number of each column, in every group where there is a worse one."""
        found = set()
        for group in dict.fromkeys(self.groups):
            rows = [n for n, other in enumerate(self.groups) if other == group]
            for column, better in enumerate(self.better):
                known = {n: self.values[n][column] for n in rows if self.values[n][column] is not None}
                if better and len(set(known.values())) > 1:
                    best = (max if better == "higher" else min)(known.values())
                    found |= {(n, column) for n, value in known.items() if value == best}
        return found


def make_tables(report: Report) -> list[Table]:
    """All tables of a report, the most important first; empty ones are left out."""
    found = [
        make_summary_table(report),
        *make_delta_tables(report),
        make_row_table(report),
        make_failure_table(report),
    ]
    return [table for table in found if table.rows]


def name_clips(report: Report) -> Callable[[str], str]:
    """How to call each clip: by its file's name, or by its path where two have one name."""
    paths = {row.clip for row in report.rows}
    counts = Counter(Path(path).name for path in paths)
    return lambda path: Path(path).name if counts[Path(path).name] == 1 else path


def make_summary_table(report: Report) -> Table:
    """One line for each subject, models apart from codecs."""
    lines = summarise(report)
    names = [name for name in report.metrics if any(name in line.means for line in lines)]
    ratios = [24 / line.bits_per_pixel if line.bits_per_pixel else None for line in lines]
    both = [_format_both(line.encode_realtime, line.decode_realtime) for line in lines]
    columns = {
        "subject": Column([line.subject for line in lines]),
        "latents": Column([line.stored or "-" for line in lines]),
        "clips": Column([_count_clips(line) for line in lines], [line.clips for line in lines]),
        **{
            _make_header(report, name): _hold_numbers(
                [line.means.get(name) for line in lines], report.metrics[name].better
            )
            for name in names
        },
        "bits/pixel": _hold_numbers([line.bits_per_pixel for line in lines], "lower"),
        "ratio": _hold_numbers(ratios, "higher"),
        "encode fps": _hold_numbers([line.encode_fps for line in lines], "higher"),
        "decode fps": _hold_numbers([line.decode_fps for line in lines], "higher"),
        "× realtime": Column(both, [line.decode_realtime for line in lines]),
        "peak host": _hold_numbers([line.peak_host_bytes for line in lines], "lower", format_megabytes),
        "peak device": _hold_numbers([line.peak_device_bytes for line in lines], "lower", format_megabytes),
    }
    table = _join_columns("Summary", columns, 2 if any(line.stored for line in lines) else 1)
    return replace(table, groups=tuple(f"{line.kind}s" for line in lines))


def make_delta_tables(report: Report) -> list[Table]:
    """BD-rates and BD-qualities: a line for each clip and subject, a column for each metric."""
    rates = {_place(d): (d.rate_percent, d.why) for d in report.deltas}
    qualities = {_place(d): (d.quality, d.quality_why) for d in report.deltas}
    name_of = name_clips(report)
    left_out = [
        f"{name_of(d.clip)}, {d.metric}: {', '.join(d.left_out)} left out of the curves: no gain over less"
        for d in report.deltas
        if d.left_out
    ]
    tables = [
        _make_delta_table(report, "Rate for the same quality (BD-rate)", rates, "{:+.1f} %"),
        _make_delta_table(report, "Quality for the same rate (BD-quality)", qualities, "{:+#.3g}"),
    ]
    return [replace(tables[0], notes=(*tables[0].notes, *dict.fromkeys(left_out))), tables[1]]


def _place(delta: Delta) -> tuple[str, str, str, str]:
    return delta.subject, delta.baseline, delta.clip, delta.metric


def _make_delta_table(
    report: Report,
    title: str,
    found: Mapping[tuple[str, str, str, str], tuple[float | None, str | None]],
    form: str,
) -> Table:
    """One number of every delta; where there is none, the notes say why."""
    lines, name_of = list(dict.fromkeys(place[:3] for place in found)), name_clips(report)
    numbers = {name: [found.get((*line, name), (None, None))[0] for line in lines] for name in report.metrics}
    columns = {
        "subject": Column([subject for subject, _, _ in lines]),
        "against": Column([baseline for _, baseline, _ in lines]),
        "clip": Column([name_of(clip) for _, _, clip in lines]),
        **{
            name: Column([_format_delta(value, form) for value in values], values)
            for name, values in numbers.items()
        },
    }
    missing = ((place, why) for place, (value, why) in found.items() if value is None)
    notes = tuple(dict.fromkeys(f"{name_of(clip)}, {metric}: {why}" for (*_, clip, metric), why in missing))
    return replace(_join_columns(title, columns, numbers_from=3), notes=notes)


def _format_delta(value: float | None, form: str) -> str:
    return "no overlap" if value is None else form.format(value)


def make_row_table(report: Report) -> Table:
    """A line for each clip and subject that worked, where there is more than one clip."""
    rows, name_of = [row for row in report.rows if not row.error], name_clips(report)
    if len({row.clip for row in rows}) < 2:
        return Table("Clips", (), ())
    columns = {
        "clip": Column([name_of(row.clip) for row in rows]),
        "subject": Column([row.subject for row in rows]),
        "frames": Column([str(row.frames) for row in rows], [row.frames for row in rows]),
        "size": Column(
            [f"{row.width}×{row.height}" for row in rows], [row.width * row.height for row in rows]
        ),
        **{
            _make_header(report, name): _hold_numbers(
                [row.scores[name].mean if name in row.scores else None for row in rows],
                report.metrics[name].better,
            )
            for name in report.metrics
        },
        "bits/pixel": _hold_numbers([row.bits_per_pixel for row in rows], "lower"),
        "encode fps": _hold_numbers([row.encode_fps for row in rows], "higher"),
        "decode fps": _hold_numbers([row.decode_fps for row in rows], "higher"),
    }
    table = _join_columns("Clips", columns, numbers_from=2)
    return replace(table, groups=tuple(name_of(row.clip) for row in rows))


def make_failure_table(report: Report) -> Table:
    """What could not be measured, and why: a line for each clip and reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in report.failed:
        reasons.setdefault((row.clip, row.error), []).append(row.subject)
    columns = {
        "clip": Column([clip for clip, _ in reasons]),
        "error": Column([error for _, error in reasons]),
        "subjects": Column([", ".join(subjects) for subjects in reasons.values()]),
    }
    return _join_columns("Failed", columns, numbers_from=3)


def collect_notes(report: Report) -> list[str]:
    """What was assumed or changed, clip by clip; each is said once."""
    return list(dict.fromkeys(f"{row.clip}: {note}" for row in report.rows for note in row.notices))


def format_number(value: float | None) -> str:
    """A number with four digits; - where there is none."""
    if value is None:
        return "-"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:#.4g}".rstrip(".")


def format_megabytes(value: int | None) -> str:
    """A number of bytes in MB."""
    return "-" if value is None else f"{value / 1e6:.0f} MB"


def _make_header(report: Report, name: str) -> str:
    """A metric's name and unit, and an arrow: up where more is better."""
    definition = report.metrics[name]
    arrow = "↑" if definition.better == "higher" else "↓"
    return f"{name} {definition.unit} {arrow}".replace("  ", " ")


def _hold_numbers(
    values: Sequence[float | None],
    better: Better | None = None,
    form: Callable[[float | None], str] = format_number,
) -> Column:
    return Column([form(value) for value in values], values, better)


def _count_clips(line: Summary) -> str:
    return f"{line.clips}" if not line.failed else f"{line.clips} ({line.failed} failed)"


def _format_both(encode: float | None, decode: float | None) -> str:
    return "-" if encode is None and decode is None else f"{format_number(encode)} / {format_number(decode)}"


def _join_columns(title: str, columns: Mapping[str, Column], numbers_from: int = 1) -> Table:
    """The table of these columns, without those in which every row has a -."""
    telling = {name: column for name, column in columns.items() if any(cell != "-" for cell in column.cells)}
    nothing = [None] * max((len(column.cells) for column in telling.values()), default=0)
    return Table(
        title,
        tuple(telling),
        tuple(zip(*(column.cells for column in telling.values()), strict=True)),
        numbers_from,
        values=tuple(zip(*(column.values or nothing for column in telling.values()), strict=True)),
        better=tuple(column.better for column in telling.values()),
    )
