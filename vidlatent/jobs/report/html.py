"""The report for people: one HTML file that fetches nothing, and that a phone can show."""

from base64 import b64encode
from collections.abc import Iterator
from html import escape

import numpy as np

from vidlatent.jobs.jpeg import WIDEST, encode_jpeg
from vidlatent.jobs.measure.pictures import AMPLIFY, WorstFrame
from vidlatent.jobs.measure.results import Report, ReportRow
from vidlatent.jobs.report.plots import plot_per_frame, plot_rate_quality, require_plots
from vidlatent.jobs.report.tables import Table, collect_notes, format_number, make_tables, name_clips

CURVES = 8  # subjects in one plot over frames
STYLE = """
:root { color-scheme: light; --ink: #1c1e21; --soft: #6a6f76; --line: #e3e5e8; --accent: #2458c5; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 78rem; padding: 1.5rem clamp(0.8rem, 3vw, 2.5rem) 4rem; background: #fff;
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0.5rem 0 0; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 0.7rem; padding-top: 0.8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 0.4rem; overflow-wrap: anywhere; }
p, dd, li { max-width: 46rem; overflow-wrap: anywhere; }
.lead, figcaption, .soft { color: var(--soft); font-size: 0.9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 0.9rem 0.35rem 0; text-align: left; border-bottom: 1px solid var(--line);
  white-space: nowrap; vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
td.number, th.number { text-align: right; }
td.long { white-space: normal; min-width: 16rem; }
figure { margin: 0 0 1rem; }
figure img { max-width: 100%; height: auto; display: block; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
.triple { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr));
  gap: 0.6rem; }
.triple img, .strip img { width: 100%; border-radius: 3px; }
.strip { display: grid; gap: 0.3rem; }
dl { display: grid; grid-template-columns: minmax(4rem, max-content) 1fr; gap: 0.35rem 1.5rem; margin: 0; }
dt { font-weight: 600; max-width: 9rem; overflow-wrap: anywhere; } dd { margin: 0; }
"""


def write_html(report: Report) -> str:
    """The report as one self-contained page."""
    require_plots()
    title = f"vidlatent {report.kind}"
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title><style>{STYLE}</style></head><body>",
            f"<h1>{title}</h1>",
            f'<p class="lead">{escape(_lead(report))}</p>',
            *_tables(report),
            *_rate_plots(report),
            *_frame_plots(report),
            *_pictures(report),
            *_method(report),
            "</body></html>\n",
        ]
    )


def _lead(report: Report) -> str:
    clips = list(dict.fromkeys(row.clip for row in report.rows))
    subjects = list(dict.fromkeys(row.subject for row in report.rows))
    named = clips[0] if len(clips) == 1 else f"{len(clips)} clips"
    return f"{named} · {', '.join(subjects)}" if len(subjects) < 5 else f"{named} · {len(subjects)} subjects"


def _tables(report: Report) -> Iterator[str]:
    for table in make_tables(report):
        yield f"<h2>{escape(table.title)}</h2>"
        yield _table(table)


def _table(table: Table) -> str:
    def cell(tag: str, column: int, text: str) -> str:
        kind = "long" if len(text) > 40 else "number" if column >= table.numbers_from else ""
        return f'<{tag} class="{kind}">{escape(text)}</{tag}>'

    head = "".join(cell("th", i, text) for i, text in enumerate(table.headers))
    body = "".join(
        "<tr>" + "".join(cell("td", i, text) for i, text in enumerate(row)) + "</tr>" for row in table.rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _rate_plots(report: Report) -> Iterator[str]:
    plots = {name: plot_rate_quality(report, name) for name in report.metrics}
    figures = [_svg(svg, f"{name} against bits per pixel") for name, svg in plots.items() if svg]
    if figures:
        yield '<h2>Rate and quality</h2><p class="soft">Means over the clips. Left is smaller; up is better, '
        yield "or down where less is. Curves are codecs at several rates, stars are models and "
        yield "codecs at one rate.</p>"
        yield '<div class="plots">'
        yield from figures
        yield "</div>"


def _frame_plots(report: Report) -> Iterator[str]:
    """The curves of those clips that have pictures, or of the first clip."""
    rows = [row for row in report.rows if not row.error]
    shown = dict.fromkeys(row.clip for row in rows if row.pictures) or dict.fromkeys(r.clip for r in rows[:1])
    name_of = name_clips(report)
    if shown:
        yield "<h2>Frame by frame</h2>"
    for clip in shown:
        yield f'<h3>{escape(name_of(clip))}</h3><div class="plots">'
        of_clip = [row for row in rows if row.clip == clip][:CURVES]
        plots = {name: plot_per_frame(report, of_clip, name) for name in report.metrics}
        yield from (_svg(svg, f"{name} of every frame") for name, svg in plots.items() if svg)
        yield "</div>"


def _pictures(report: Report) -> Iterator[str]:
    rows, name_of = [row for row in report.rows if row.pictures], name_clips(report)
    if rows:
        yield "<h2>Worst frames, and one row of pixels through time</h2>"
        yield f'<p class="soft">Source, reconstruction, and their difference × {AMPLIFY} around grey. The '
        yield "strips are the middle row of every frame, time to the right: source above, reconstruction "
        yield "below. What flickers has vertical bars.</p>"
    for row in rows:
        yield f"<h3>{escape(name_of(row.clip))} · {escape(row.subject)}</h3>"
        yield from (_triple(row, worst) for worst in row.pictures.worst())
        yield _strip(row)


def _triple(row: ReportRow, worst: WorstFrame) -> str:
    words = f"frame {worst.index}" + (f", psnr {_psnr(row, worst)} dB" if "psnr" in row.scores else "")
    sides = {"source": worst.reference, "reconstruction": worst.distorted, "difference": worst.difference}
    images = "".join(_picture(pixels, f"{name} of {words}") for name, pixels in sides.items())
    return f'<figure><div class="triple">{images}</div><figcaption>{words}</figcaption></figure>'


def _psnr(row: ReportRow, worst: WorstFrame) -> str:
    return format_number(row.scores["psnr"].per_frame[worst.index])


def _strip(row: ReportRow) -> str:
    sides = zip(("source", "reconstruction"), row.pictures.strip(), strict=True)
    images = "".join(_picture(_landscape(pixels), f"{name} through time") for name, pixels in sides)
    return f'<figure><div class="strip">{images}</div><figcaption>through time</figcaption></figure>'


def _landscape(strip: np.ndarray) -> np.ndarray:
    """[W, frames, 3] with at most 96 rows, widened by repeating columns, so that it looks like a strip."""
    rows = strip[:: max(1, strip.shape[0] // 96)]
    return np.repeat(rows, max(1, WIDEST // rows.shape[1]), axis=1)


def _method(report: Report) -> Iterator[str]:
    yield "<h2>How it was measured</h2><dl>"
    yield from (_fact(name, definition.protocol) for name, definition in report.metrics.items())
    for name, value in report.settings.items():
        nested = value if isinstance(value, dict) else {name: value}
        yield from (_fact(inner, item) for inner, item in nested.items())
    yield "</dl>"
    if said := collect_notes(report):
        yield "<h2>Notes</h2><ul>" + "".join(f"<li>{escape(note)}</li>" for note in said) + "</ul>"
    yield "<h2>Machine</h2><dl>"
    yield from (_fact(name, value) for name, value in report.machine.items())
    yield "</dl>"


def _fact(name: str, value: object) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{key} {item}" for key, item in value.items() if item is not None)
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value)) or "none"
    return f"<dt>{escape(name)}</dt><dd>{escape('-' if value is None else str(value))}</dd>"


def _svg(svg: str, words: str) -> str:
    return f'<figure><img src="{_data("svg+xml", svg.encode())}" alt="{escape(words)}"></figure>'


def _picture(rgb: np.ndarray, words: str) -> str:
    return f'<img src="{_data("jpeg", encode_jpeg(rgb))}" alt="{escape(words)}" title="{escape(words)}">'


def _data(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{b64encode(content).decode()}"
