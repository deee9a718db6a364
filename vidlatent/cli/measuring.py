"""What bench and compare share: naming metrics, and showing or writing what was found."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidlatent.cli.console import notice, print_json, say
from vidlatent.errors import UsageError

if TYPE_CHECKING:
    import rich.table

    from vidlatent.jobs.measure.results import Report
    from vidlatent.jobs.report.tables import Table

MetricsOption = Annotated[str, typer.Option("--metrics", help="Comma-separated; see the list below.")]
FileOption = Annotated[
    list[str] | None,
    typer.Option("--metric-file", help="NAME=PATH: the file a metric needs. May be given again."),
]
ReportOption = Annotated[
    list[Path] | None,
    typer.Option("--report", help="Write a .json, .csv, .md or .html report. May be given again."),
]


def metric_files(given: list[str] | None) -> dict[str, Path]:
    """From NAME=PATH."""
    files = {}
    for text in given or []:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise UsageError(
                f"--metric-file {text}: expected NAME=PATH", "for instance fvd=i3d_torchscript.pt"
            )
        files[name] = Path(path)
    return files


def words(text: str) -> tuple[str, ...]:
    """From "psnr,ssim"."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def conclude(report: "Report", targets: list[Path], force: bool, as_json: bool) -> int:
    """Write the reports, show the tables (or the JSON document), and tell the exit code."""
    from vidlatent.jobs.measure.document import report_to_json
    from vidlatent.jobs.report.files import write_report
    from vidlatent.jobs.report.tables import notes

    for path in targets:
        write_report(report, path, force)
        say(f"wrote {path}")
    notice(notes(report))
    print_json(report_to_json(report)) if as_json else show(report)
    return 1 if report.failed else 0


def show(report: "Report") -> None:
    """The tables, on stdout: as wide as they are where it is a file or a pipe."""
    from rich.measure import Measurement

    from vidlatent.cli.tables import table_console
    from vidlatent.jobs.report.tables import tables

    console = table_console()
    for table in tables(report):
        drawn = draw(table)
        if Measurement.get(console, console.options, drawn).maximum > console.width:
            drawn = draw(table.turned())
        console.print(drawn, "")


def draw(table: "Table") -> "rich.table.Table":
    """A table for the terminal."""
    from rich.table import Table as RichTable

    drawn = RichTable(title=table.title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for i, head in enumerate(table.headers):
        drawn.add_column(head, justify="left" if i < table.numbers_from else "right", overflow="fold")
    for row in table.rows:
        drawn.add_row(*row)
    return drawn
