"""What tables and the progress look like where there is little room."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from vidlatent.cli import tables
from vidlatent.cli.console import shorten
from vidlatent.cli.measuring import draw, stack
from vidlatent.jobs.models import list_models
from vidlatent.jobs.report.tables import Table


@pytest.mark.parametrize("width", [50, 80])
def test_a_row_is_a_line_and_what_does_not_fit_is_named(width):
    rows = [{"name": f"model-{n}", "size": "123456789", "summary": "words " * 20} for n in range(3)]
    out = io.StringIO()
    tables.show_rows(rows, Console(file=out, width=width))
    head, *lines, last = out.getvalue().splitlines()
    assert head.split() == ["name", "size"] and len(lines) == 3
    assert last == f"not shown in {width} columns: summary"


def test_long_values_are_broken_between_words(monkeypatch, capsys):
    """The terminal broke them anywhere, within numbers too."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "50")
    tables.show_facts({"scale": [f"{n}.12345" for n in range(12)], "b": 1})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 50 and lines[-1] == "b      1"
    assert " ".join(lines[:-1]).split() == ["scale", *(f"{n}.12345," for n in range(11)), "11.12345"]


def test_an_empty_name_in_a_list_is_seen():
    assert tables.spell(["", "Upsample", []]) == "-, Upsample, -"


@pytest.mark.parametrize(
    ("room", "shown"), [(20, "1 of 9: clip.mp4"), (12, "1 of 9…p.mp4"), (0, "1 of….mp4")]
)
def test_a_long_name_leaves_room_for_the_numbers_of_the_progress(room, shown):
    assert shorten("1 of 9: clip.mp4", room) == shown


def test_every_model_has_a_line_of_its_own_in_80_columns():
    rows = [vars(row) for row in list_models()]
    out = io.StringIO()
    tables.show_rows(rows, Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert len(lines) == len(rows) + 2 and max(map(len, lines)) <= 80
    assert {"name", "weights"} <= set(lines[0].split())


def test_a_report_of_many_columns_and_rows_is_stacked():
    heads = ("subject", *(f"metric-{n}" for n in range(12)))
    rows = tuple((f"model-{n}", *["12.345678901"] * 12) for n in range(9))
    console = Console(file=io.StringIO(), width=50)
    table = Table("Summary", heads, rows)
    console.print(stack(table))
    assert console.file.getvalue().count("12.345678901") == 9 * 12, "no number is folded"
    assert tables.measure(console, draw(table)) > 80


def test_frames_are_expected_by_duration_where_no_header_counts_them():
    from fractions import Fraction

    from vidlatent.jobs.encode import ReadOptions, expect_frames

    info = SimpleNamespace(
        header_frames=None, header_duration=Fraction(4), average_rate=Fraction(25), counted_frames=None
    )
    video = SimpleNamespace(info=info)
    assert expect_frames(video, ReadOptions()) == 100
    assert expect_frames(video, ReadOptions(start=1, end=3)) == 50
    assert expect_frames(video, ReadOptions(frames=7)) == 7
    assert expect_frames(video, ReadOptions(fps=10)) == 40
