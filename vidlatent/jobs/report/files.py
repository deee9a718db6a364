"""Reports as files: one small writer for each format, chosen by the file's suffix."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from vidlatent.errors import UsageError
from vidlatent.files import Kind, refuse_existing, refuse_foreign, refuse_unwritable, replace_on_close
from vidlatent.jobs.measure.document import FORMAT, spell_infinity, write_json
from vidlatent.jobs.measure.results import Report, ReportRow
from vidlatent.jobs.report.details import make_detail_tables
from vidlatent.jobs.report.html import write_html
from vidlatent.jobs.report.plots import require_plots
from vidlatent.jobs.report.tables import Table, collect_notes, make_tables
from vidlatent.json_values import to_json_values
from vidlatent.printable import encode_text


def write_csv(report: Report) -> str:
    """One line for each clip and subject, in plain columns; failures have their error and no numbers."""
    text = io.StringIO()
    lines = [_flatten(row, report) for row in report.rows]
    writer = csv.DictWriter(text, fieldnames=list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _flatten(row: ReportRow, report: Report) -> dict[str, object]:
    facts = {
        name: getattr(row, name) for name in ("clip", "subject", "kind", "frames", "width", "height", "fps")
    }
    for name in report.metrics:
        facts[name] = row.scores[name].mean if name in row.scores else None
        facts[f"{name} worst"] = row.scores[name].values.get("worst") if name in row.scores else None
    speed = {
        "encode_s": row.speed.encode_s if row.speed else None,
        "decode_s": row.speed.decode_s if row.speed else None,
    }
    names = (
        "bits_per_pixel",
        "ratio",
        "encode_fps",
        "decode_fps",
        "peak_host_bytes",
        "peak_device_bytes",
        "error",
    )
    return to_json_values(facts | speed | {name: getattr(row, name) for name in names}, spell_infinity)


def write_markdown(report: Report) -> str:
    """The tables, then what the numbers mean and what they were made on."""
    parts = [
        f"# vidlatent {report.kind}",
        *(_write_table(table) for table in make_tables(report)),
        "## How it was measured",
        f"    {report.command}" if report.command else "",
    ]
    parts.append("\n".join(f"* **{name}**: {d.protocol}" for name, d in report.metrics.items()))
    parts += [_write_table(table) for table in make_detail_tables(report)]
    parts.append("\n".join(f"* {note}" for note in collect_notes(report)))
    parts.append("\n".join(f"* {name}: {value}" for name, value in report.machine.items()))
    return "\n\n".join(part for part in parts if part) + "\n"


def _write_table(table: Table) -> str:
    rule = ["---" if i < table.numbers_from else "---:" for i in range(len(table.headers))]
    best = table.best()
    rows = [
        tuple(f"**{_escape(text)}**" if (n, m) in best else _escape(text) for m, text in enumerate(row))
        for n, row in enumerate(table.rows)
    ]
    lines = [f"| {' | '.join(line)} |" for line in (map(_escape, table.headers), rule, *rows)]
    notes = [f"\n{note}" for note in table.notes]
    return "\n".join([f"## {table.title}\n", *lines, *notes])


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


ReportWriter = Callable[[Report], str]
WRITERS: Mapping[str, ReportWriter] = {
    ".json": write_json,
    ".csv": write_csv,
    ".md": write_markdown,
    ".html": write_html,
}

_SIGNS = {  # how a report of each kind begins
    ".json": f'"format": "{FORMAT}"',
    ".csv": "clip,subject,kind,",
    ".md": "# vidlatent ",
    ".html": "<title>vidlatent ",
}


def check_targets(paths: Iterable[Path], force: bool = False) -> None:
    """Raise UsageError where a report could not be written: better now than after hours of measuring."""
    for path in paths:
        if path.suffix not in WRITERS:
            raise UsageError(f"{path}: no such kind of report", f"there are {', '.join(WRITERS)}")
        if path.suffix == ".html":
            require_plots()
        refuse_existing(path, force)
        refuse_unwritable(path)
        refuse_foreign(path, Kind("a report of vidlatent", (_SIGNS[path.suffix].encode(),), 512))


def write_report(report: Report, path: Path, force: bool = False) -> None:
    """Write a report in the format of the path's suffix."""
    check_targets([path], force)
    text = WRITERS[path.suffix](report)
    with replace_on_close(path) as partial:
        partial.write_bytes(encode_text(text))
