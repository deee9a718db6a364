"""The tables of a report that come last: how far numbers lie apart, how codecs were run, which files."""

from collections.abc import Iterator

from vidlatent.jobs.measure.results import Report, ReportRow, spread_over_row, summarise
from vidlatent.jobs.measure.spread import Spread
from vidlatent.jobs.report.tables import Table, format_number, name_clips


def make_detail_tables(report: Report) -> list[Table]:
    """The tables for a page and for Markdown; a terminal does not show them. Empty ones are left out."""
    found = [make_spread_table(report), make_codec_table(report), make_source_table(report)]
    return [table for table in found if table.rows]


def make_spread_table(report: Report) -> Table:
    """A line for each subject and number: over the clips where there are several, else frames and runs."""
    lines = []
    for subject, over, name, spread in _list_spreads(report):
        unit = report.metrics[name].unit if name in report.metrics else ""
        what = f"{name} {unit}".strip().replace("_", " ")
        numbers = (spread.mean, spread.std, spread.min, spread.max)
        lines.append((subject, what, f"{spread.count} {over}", *map(format_number, numbers)))
    headers = ("subject", "number", "of", "mean", "std", "min", "max")
    return Table("Spread", headers, tuple(lines), numbers_from=3, groups=tuple(line[0] for line in lines))


def _list_spreads(report: Report) -> Iterator[tuple[str, str, str, Spread]]:
    """Subject, what it is over, the number's name, and how far its values lie apart."""
    good = [row for row in report.rows if not row.error]
    if len({row.clip for row in good}) > 1:
        for line in summarise(report):
            for name, spread in line.spread.items():
                yield line.subject, "runs" if name.endswith("fps") else "clips", name, spread
        return
    for row in good:
        for name, spread in spread_over_row(row).items():
            yield row.subject, "runs" if name.endswith("_s") else "frames", name, spread


def make_codec_table(report: Report) -> Table:
    """A line for each codec at each rate of each clip: what was asked, and the commands."""
    rows, name_of = [row for row in report.rows if row.coding], name_clips(report)
    lines = tuple(
        (
            *(row.subject, name_of(row.clip), _format_crf(row), format_number(row.coding.wanted)),
            *(format_number(row.bits_per_pixel), row.coding.encode, row.coding.decode),
        )
        for row in rows
    )
    headers = ("subject", "clip", "crf", "wanted bits/pixel", "bits/pixel", "encoded by", "decoded by")
    return Table("Codecs", headers, lines, numbers_from=len(headers))


def _format_crf(row: ReportRow) -> str:
    return "-" if row.coding.crf is None else f"{row.coding.crf:g}"


def make_source_table(report: Report) -> Table:
    """The files that were measured, and their hashes."""
    lines = tuple((name, f"{source.bytes:,}", source.sha256) for name, source in report.sources.items())
    return Table("Files", ("file", "bytes", "sha256"), lines, numbers_from=3)
