"""Flags of `bench` and `compare`: which metrics are measured, and where the numbers go."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from tempfile import gettempdir
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidlatent.cli import options as o
from vidlatent.cli import words
from vidlatent.cli.console import name_command, print_json, say, say_notices
from vidlatent.cli.sections import Flags, SectionedCommand
from vidlatent.errors import VidlatentError
from vidlatent.printable import make_printable

if TYPE_CHECKING:
    import rich.console
    import rich.table

    from vidlatent.jobs.measure.results import Report
    from vidlatent.jobs.report.tables import Table


MetricsOption = Annotated[str, typer.Option("--metrics", help="Comma-separated; see the list below.")]


class MeasuringCommand(SectionedCommand):
    """A command whose help ends with the metrics and what each needs."""

    def format_epilog(self, ctx: typer.Context, formatter: Any) -> None:
        """Write the metrics, which are loaded for this alone, and then the example."""
        from vidlatent.jobs.measure.metric_help import METRIC_HELP

        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(METRIC_HELP)
        super().format_epilog(ctx, formatter)


class MetricFlags(Flags):
    """Which metrics are measured; every command has its own default."""

    heading = "What is measured"
    metrics: MetricsOption
    metric_file: Annotated[
        list[str] | None,
        typer.Option("--metric-file", help="NAME=PATH: the file a metric needs. May be given again."),
    ] = None

    def metric_options(self) -> dict[str, Any]:
        """Make those options of a measuring job that say which metrics it takes."""
        files = words.parse_files(self.metric_file, "--metric-file")
        return {"metrics": words.parse_names(self.metrics), "files": files}


class ReportFlags(Flags):
    """Into which reports the numbers are written, and how they are shown."""

    heading = "What is written"
    report: Annotated[
        list[Path] | None,
        typer.Option("--report", help="Write a .json, .csv, .md or .html report. May be given again."),
    ] = None
    play: Annotated[
        float,
        typer.Option("--play", min=0, max=60, help="Seconds of a clip that an .html report plays; 0: none."),
    ] = 4.0
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            help="Journal (.jsonl) of finished rows: skip those in it.  [default: a new one, "
            "removed once all is written]",
        ),
    ] = None
    force: o.ForceOption = False
    as_json: o.JsonOption = False

    @property
    def play_s(self) -> float:
        """How many seconds are kept to be played: none where no report shows them."""
        return self.play if any(path.suffix == ".html" for path in self.report or []) else 0.0

    def check(self) -> None:
        """Refuse reports that cannot be written, before any work."""
        from vidlatent.jobs.report.files import check_targets

        check_targets(self.report or [], self.force)

    @contextmanager
    def journal(self, wanted: bool = True) -> Iterator[Path | None]:
        """Give the file where finished rows are kept while the block runs, so that nothing measured is lost.

        That is the one of --resume, which stays; or else, if one is `wanted`, a new one beside the first
        report, which goes once all is written.
        """
        if self.resume or not wanted:
            yield self.resume
            return
        place = self.report[0].absolute() if self.report else Path(gettempdir()) / "vidlatent"
        path = place.with_name(f".{place.name}.{token_hex(4)}.jsonl")
        try:
            yield path
        except BaseException:
            if path.exists():
                say(f"note: finished rows are kept in {path}; the same command goes on with --resume {path}")
            raise
        path.unlink(missing_ok=True)
        shutil.rmtree(f"{path}.pictures", ignore_errors=True)

    def write(self, report: "Report") -> int:
        """Print the tables or the JSON document, write the reports, and return the exit code.

        Printing comes first, and what keeps one report from being written does not keep the others.
        """
        from dataclasses import replace

        from vidlatent.jobs.measure.document import report_to_json
        from vidlatent.jobs.report.files import write_report
        from vidlatent.jobs.report.tables import collect_notes

        report = replace(report, command=name_command())
        say_notices(collect_notes(report))
        print_json(report_to_json(report)) if self.as_json else show(report)
        wrong: list[VidlatentError] = []
        for path in self.report or []:
            try:
                write_report(report, path, self.force)
                say(f"wrote {path}")
            except VidlatentError as e:
                wrong.append(e)
        if wrong:
            raise wrong[0]
        return 1 if report.failed else 0


def show(report: "Report") -> None:
    """Print the tables. One that is too wide for the terminal is turned: its rows become columns."""
    from rich.text import Text

    from vidlatent.cli.tables import measure, table_console
    from vidlatent.jobs.report.tables import make_tables

    console = table_console()
    for table in make_tables(report):
        drawn = draw(table)
        if measure(console, drawn) > console.width:
            drawn = draw(table.turned())
        if measure(console, drawn) > console.width:
            drawn = stack(table)
        console.print(drawn, *(Text(make_printable(f"* {note}")) for note in table.notes), "", sep="\n")


def stack(table: "Table") -> "rich.console.Group":
    """Make blocks of a table that is too wide on its side as well: a line for each fact of a row."""
    from dataclasses import replace

    from rich.console import Group

    blocks = (replace(table, title=f"{table.title}: {row[0]}", rows=(row,)).turned() for row in table.rows)
    return Group(*(part for block in blocks for part in (draw(block), "")))


def draw(table: "Table") -> "rich.table.Table":
    """Make a table that rich can print."""
    from rich.table import Table as RichTable
    from rich.text import Text

    def cell(text: str) -> Text:
        """What is in a cell: a name there may look like markup, or steer the terminal."""
        return Text(make_printable(text))

    drawn = RichTable(
        title=cell(table.title), title_justify="left", box=None, pad_edge=False, header_style="bold"
    )
    for i, head in enumerate(table.headers):
        drawn.add_column(cell(head), justify="left" if i < table.numbers_from else "right", overflow="fold")
    for row in table.rows:
        drawn.add_row(*map(cell, row))
    return drawn
