"""The report for people: one HTML file that fetches nothing, and that a phone can show."""

import json
from collections.abc import Iterator, Mapping
from html import escape

from vidlatent.jobs.measure.results import Report
from vidlatent.jobs.report.details import make_detail_tables
from vidlatent.jobs.report.looks import show_looks
from vidlatent.jobs.report.page import close_page, make_inline, open_page, read_part
from vidlatent.jobs.report.plots import (
    describe_subjects,
    label_metric,
    list_frame_plots,
    list_rate_plots,
    load_plotly,
    name_missing_points,
)
from vidlatent.jobs.report.tables import Table, collect_notes, make_tables

FEW_NOTES = 8  # so many are read at once
FOLDED_ROWS = 16  # a table with more can be opened; the summary is open always


def write_html(report: Report) -> str:
    """The report as one self-contained page."""
    scripts = [make_inline(script) for script in (load_plotly(), read_part("report.js"))]
    subjects = describe_subjects(report)
    rates, (clips, left_out) = list_rate_plots(report), list_frame_plots(report)
    metrics = [{"name": name, "label": label_metric(report, name)} for name in _list_frame_metrics(clips)]
    data = {"subjects": subjects, "rates": rates, "clips": clips, "frame_metrics": metrics}
    dots = {name: _dot(*facts["colours"]) for name, facts in subjects.items()}
    dots = {facts["family"]: dots[name] for name, facts in subjects.items()} | dots
    return "\n".join(
        [
            open_page(f"vidlatent {report.kind}", read_part("page.css") + read_part("report.css"), scripts),
            f'<p class="lead">{escape(_lead(report))}</p>',
            *_tables(make_tables(report), dots),
            *_plots(report, rates, left_out, bool(clips)),
            *show_looks(report, dots),
            *_method(report, dots),
            f'<script type="application/json" id="data">{_write_data(data)}</script>',
            close_page(scripts),
        ]
    )


def _lead(report: Report) -> str:
    clips = list(dict.fromkeys(row.clip for row in report.rows))
    subjects = list(dict.fromkeys(row.subject for row in report.rows))
    named = clips[0] if len(clips) == 1 else f"{len(clips)} clips"
    return f"{named} · {', '.join(subjects)}" if len(subjects) < 5 else f"{named} · {len(subjects)} subjects"


def _dot(light: str, dark: str) -> str:
    return f'<i class="dot" style="--light:{light};--dark:{dark}"></i>'


def _write_data(data: dict[str, object]) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _list_frame_metrics(clips: list[dict]) -> list[str]:
    return list(dict.fromkeys(name for clip in clips for line in clip["lines"] for name in line["scores"]))


def _tables(tables: list[Table], dots: dict[str, str]) -> Iterator[str]:
    for n, table in enumerate(tables):
        shown = _table(table, dots)
        if n and len(table.rows) > FOLDED_ROWS:
            yield _fold(f"{table.title}: {len(table.rows)} rows", shown)
        else:
            yield f"<h2>{escape(table.title)}</h2>{shown}"


def _table(table: Table, dots: dict[str, str]) -> str:
    """A table that the page's script sorts, group by group, with the best of each column marked."""
    best = table.best()
    head = "".join(
        f'<th class="{_align(table, n)}"><button>{escape(text)}</button></th>'
        for n, text in enumerate(table.headers)
    )
    bodies: dict[str, list[str]] = {}
    for n, row in enumerate(table.rows):
        cells = "".join(_cell(table, (n, m), text, dots, (n, m) in best) for m, text in enumerate(row))
        bodies.setdefault(table.groups[n] if table.groups else "", []).append(f"<tr>{cells}</tr>")
    title = '<tr class="group"><td colspan="{}">{}</td></tr>'
    titles = {
        name: title.format(len(table.headers), escape(name)) if len(bodies) > 1 else "" for name in bodies
    }
    body = "".join(f"<tbody>{titles[name]}{''.join(lines)}</tbody>" for name, lines in bodies.items())
    notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in table.notes)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>{body}</table></div>'
        f'<p class="soft hint">More columns to the right: scroll →</p>{notes}'
    )


def _align(table: Table, column: int) -> str:
    return "number" if column >= table.numbers_from else ""


def _cell(table: Table, place: tuple[int, int], text: str, dots: dict[str, str], best: bool) -> str:
    row, column = place
    kinds = ["long"] if len(text) > 40 else [_align(table, column)]
    value = table.values[row][column] if table.values else None
    known = "" if value is None else f' data-value="{value}"'
    dot = dots.get(text, "") if table.headers[column] in ("subject", "against") else ""
    return f'<td class="{" ".join([*kinds, *(["best"] if best else [])])}"{known}>{dot}{escape(text)}</td>'


def _plots(report: Report, rates: list[dict], left_out: list[str], frames: bool) -> Iterator[str]:
    if not rates and not frames:
        return
    yield f"<section><h2>{'Rate and quality' if rates else 'Frame by frame'}</h2>"
    yield '<p class="soft">A click on a subject hides or shows it in all plots, a double click '
    yield "shows it alone.</p>"
    yield '<div class="chips legend" aria-label="subjects"></div>'
    if rates:
        yield '<p class="soft">Means over the clips. Left is smaller. Lines are codecs at several rates, '
        yield 'stars are models.</p><div class="plots">'
        for n, plot in enumerate(rates):
            yield f"<figure><figcaption>{escape(plot['label'])}</figcaption>"
            yield f'<div class="plot rate" data-nth="{n}"></div></figure>'
        yield "</div>"
        yield from (f'<p class="soft">{escape(said)}</p>' for said in name_missing_points(report, rates))
    if frames:
        yield "<h2>Frame by frame</h2>" if rates else ""
        yield '<div class="chips choose-clip" aria-label="clip"></div>'
        yield '<div class="chips choose-metric" aria-label="metric"></div>'
        yield '<figure><figcaption></figcaption><div class="plot frames"></div></figure>'
        if left_out:
            yield f'<p class="soft">Left out, for a small page: {escape(", ".join(left_out))}.</p>'
    yield "</section>"


def _method(report: Report, dots: dict[str, str]) -> Iterator[str]:
    yield "<h2>How it was measured</h2>"
    if report.command:
        yield f"<p><code>{escape(report.command)}</code></p>"
    yield from _notes(collect_notes(report))
    yield _fold("Metrics", _facts({name: metric.protocol for name, metric in report.metrics.items()}))
    facts = {}
    for name, value in report.settings.items():
        facts |= value if isinstance(value, dict) else {name: value}
    yield _fold("Settings", _facts(facts))
    for table in make_detail_tables(report):
        yield _fold(table.title, _table(table, dots))
    yield _fold("Machine", _facts(report.machine))


def _notes(said: list[str]) -> Iterator[str]:
    listed = f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in said)}</ul>"
    if said:
        yield listed if len(said) <= FEW_NOTES else _fold(f"Notes: {len(said)}", listed)


def _fold(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def _facts(facts: Mapping[str, object]) -> str:
    return f"<dl>{''.join(_fact(name, value) for name, value in facts.items())}</dl>"


def _fact(name: str, value: object) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{key} {item}" for key, item in value.items() if item is not None)
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value)) or "none"
    return f"<dt>{escape(name)}</dt><dd>{escape('-' if value is None else str(value))}</dd>"
