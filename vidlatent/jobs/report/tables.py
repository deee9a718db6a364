"""A report as tables of words, for whoever draws them: a terminal, Markdown, HTML."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vidlatent.jobs.measure.results import Delta, Report, Row, Summary, summaries


@dataclass(frozen=True)
class Table:
    """Headers and rows of words; numbers begin at column `numbers_from`."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers_from: int = 1

    def turned(self) -> "Table":
        """The same with a column for each row: for few rows of many columns."""
        lines = list(zip(self.headers, *self.rows, strict=True))
        return Table(self.title, lines[0], tuple(lines[1:]))


def tables(report: Report) -> list[Table]:
    """All that a report has to say in tables, most important first; empty ones are left out."""
    found = [summary_table(report), delta_table(report), row_table(report), failure_table(report)]
    return [table for table in found if table.rows]


def clip_names(report: Report) -> Callable[[str], str]:
    """How to call each clip: by its file's name, where no two are called the same."""
    paths = {row.clip for row in report.rows}
    counts = Counter(Path(path).name for path in paths)
    return lambda path: Path(path).name if counts[Path(path).name] == 1 else path


def summary_table(report: Report) -> Table:
    """One line per subject."""
    lines = summaries(report)
    names = [name for name in report.metrics if any(name in line.means for line in lines)]
    columns = {
        "subject": [line.subject for line in lines],
        "clips": [_clips(line) for line in lines],
        **{_headed(report, name): [number(line.means.get(name)) for line in lines] for name in names},
        "bits/pixel": [number(line.bits_per_pixel) for line in lines],
        "ratio": [number(24 / line.bits_per_pixel if line.bits_per_pixel else None) for line in lines],
        "encode fps": [number(line.encode_fps) for line in lines],
        "decode fps": [number(line.decode_fps) for line in lines],
        "× realtime": [_both(line.encode_realtime, line.decode_realtime) for line in lines],
        "peak host": [megabytes(line.peak_host_bytes) for line in lines],
        "peak device": [megabytes(line.peak_device_bytes) for line in lines],
    }
    return _table("Summary", columns)


def delta_table(report: Report) -> Table:
    """BD-rates: one line per clip and subject, a column per metric."""
    found = {(d.clip, d.subject, d.metric): d for d in report.deltas}
    lines, name_of = (
        list(dict.fromkeys((d.subject, d.baseline, d.clip) for d in report.deltas)),
        clip_names(report),
    )
    columns = {
        "subject": [subject for subject, _, _ in lines],
        "against": [baseline for _, baseline, _ in lines],
        "clip": [name_of(clip) for _, _, clip in lines],
        **{
            name: [_delta(found.get((clip, subject, name))) for subject, _, clip in lines]
            for name in report.metrics
        },
    }
    return _table("Rate for the same quality (BD-rate)", columns, numbers_from=3)


def _delta(delta: Delta | None) -> str:
    if delta is None:
        return "-"
    return "no overlap" if delta.rate_percent is None else f"{delta.rate_percent:+.1f} %"


def row_table(report: Report) -> Table:
    """One line per clip and subject that worked, where there is more than one clip."""
    rows, name_of = [row for row in report.rows if not row.error], clip_names(report)
    if len({row.clip for row in rows}) < 2:
        return Table("Clips", (), ())
    columns = {
        "clip": [name_of(row.clip) for row in rows],
        "subject": [row.subject for row in rows],
        "frames": [str(row.frames) for row in rows],
        "size": [f"{row.width}×{row.height}" for row in rows],
        **{_headed(report, name): [_score(row, name) for row in rows] for name in report.metrics},
        "bits/pixel": [number(row.bits_per_pixel) for row in rows],
        "encode fps": [number(row.encode_fps) for row in rows],
        "decode fps": [number(row.decode_fps) for row in rows],
    }
    return _table("Clips", columns, numbers_from=2)


def failure_table(report: Report) -> Table:
    """What could not be measured, and why: one line per clip and reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in report.failed:
        reasons.setdefault((row.clip, row.error), []).append(row.subject)
    columns = {
        "clip": [clip for clip, _ in reasons],
        "error": [error for _, error in reasons],
        "subjects": [", ".join(subjects) for subjects in reasons.values()],
    }
    return _table("Failed", columns, numbers_from=3)


def notes(report: Report) -> list[str]:
    """What was assumed or changed, clip by clip, each said once."""
    return list(dict.fromkeys(f"{row.clip}: {note}" for row in report.rows for note in row.notices))


def number(value: float | None) -> str:
    """Four digits; - where there is none."""
    if value is None:
        return "-"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:#.4g}".rstrip(".")


def megabytes(value: int | None) -> str:
    """Bytes in MB."""
    return "-" if value is None else f"{value / 1e6:.0f} MB"


def _headed(report: Report, name: str) -> str:
    """A metric's name, its unit, and an arrow towards what is better."""
    definition = report.metrics[name]
    arrow = "↑" if definition.better == "higher" else "↓"
    return f"{name} {definition.unit} {arrow}".replace("  ", " ")


def _score(row: Row, name: str) -> str:
    return number(row.scores[name].mean if name in row.scores else None)


def _clips(line: Summary) -> str:
    return f"{line.clips}" if not line.failed else f"{line.clips} ({line.failed} failed)"


def _both(encode: float | None, decode: float | None) -> str:
    return "-" if encode is None and decode is None else f"{number(encode)} / {number(decode)}"


def _table(title: str, columns: dict[str, list[str]], numbers_from: int = 1) -> Table:
    """Columns side by side, without those in which no row has anything to say."""
    telling = {head: cells for head, cells in columns.items() if any(cell != "-" for cell in cells)}
    return Table(title, tuple(telling), tuple(zip(*telling.values(), strict=True)), numbers_from)
