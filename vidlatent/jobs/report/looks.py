"""The part of a report to look at: worst frames under a wipe, a row of pixels through time, a short film."""

from collections.abc import Iterator, Mapping
from html import escape

import numpy as np

from vidlatent.jobs.jpeg import FINE, SMALL, WIDEST, encode_jpeg
from vidlatent.jobs.measure.pictures import AMPLIFY, WorstFrame
from vidlatent.jobs.measure.results import Report, ReportRow
from vidlatent.jobs.report.page import embed
from vidlatent.jobs.report.tables import format_number, name_clips


def show_looks(report: Report, dots: Mapping[str, str]) -> Iterator[str]:
    """A panel for each row that has pictures, one of which is shown at a time; the others are named."""
    rows, name_of = [row for row in report.rows if row.pictures], name_clips(report)
    if not rows:
        return
    yield "<h2>Look at it</h2>"
    yield '<p class="soft">The worst frames: left of the line is the source, right of it the reconstruction; '
    yield f"move it. Below or beside is their difference × {AMPLIFY} around grey.</p>"
    yield '<div><div class="chips picker" aria-label="clip and subject"></div>'
    for row in rows:
        label = f"{name_of(row.clip)} · {row.subject}"
        yield f'<div class="panel" data-label="{escape(label)}" hidden>'
        yield f"<h3>{dots.get(row.subject, '')}{escape(label)}</h3>"
        yield from _show_row(row)
        yield "</div>"
    yield "</div>"
    if others := [row for row in report.rows if not row.pictures and not row.error]:
        named = ", ".join(f"{name_of(row.clip)} · {row.subject}" for row in others)
        yield f"<details><summary>{len(others)} rows without pictures: the worst have some, models first"
        yield f'</summary><p class="soft">{escape(named)}</p></details>'


def _show_row(row: ReportRow) -> Iterator[str]:
    if row.pictures.film:
        film = embed("video/mp4", row.pictures.film)
        yield f'<figure><video class="film" controls loop muted playsinline preload="metadata" src="{film}">'
        yield "</video><figcaption>source on the left, reconstruction on the right</figcaption></figure>"
    yield '<div><div class="chips picker" aria-label="frame"></div>'
    yield from (_show_frame(row, worst) for worst in row.pictures.worst())
    yield "</div>"
    yield _show_strip(row)


def _show_frame(row: ReportRow, worst: WorstFrame) -> str:
    when = f"frame {worst.index}" if worst.time_s is None else f"{worst.time_s:.2f} s"
    words = f"{when}, psnr {_psnr(row, worst)} dB" if "psnr" in row.scores else when
    images = {
        name: _picture(pixels, f"{name} at {when}", kind)
        for name, pixels, kind in (
            ("source", worst.reference, ""),
            ("reconstruction", worst.distorted, "over"),
            ("difference", worst.difference, "difference"),
        )
    }
    slider = '<input type="range" min="0" max="100" value="50" step="0.5" aria-label="line between the two">'
    both = f'{images["source"]}{images["reconstruction"]}{slider}<i class="edge"></i>'
    return (
        f'<div class="panel look" data-label="{words}" hidden><figure class="wipe">{both}</figure>'
        f"<figure>{images['difference']}</figure></div>"
    )


def _psnr(row: ReportRow, worst: WorstFrame) -> str:
    return format_number(row.scores["psnr"].per_frame[worst.index])


def _show_strip(row: ReportRow) -> str:
    sides = zip(("source", "reconstruction"), row.pictures.strip(), strict=True)
    images = "".join(_picture(_landscape(pixels), f"{name} through time") for name, pixels in sides)
    words = "the middle row of every frame, time to the right, source above: what flickers has vertical bars"
    return f'<figure><div class="strip">{images}</div><figcaption>{words}</figcaption></figure>'


def _landscape(strip: np.ndarray) -> np.ndarray:
    """[W, frames, 3] with at most 96 rows, widened by repeating columns, so that it looks like a strip."""
    rows = strip[:: max(1, strip.shape[0] // 96)]
    return np.repeat(rows, max(1, WIDEST // rows.shape[1]), axis=1)


def _picture(rgb: np.ndarray, words: str, kind: str = "") -> str:
    quantiser = SMALL if kind == "difference" else FINE
    source = embed("image/jpeg", encode_jpeg(rgb, quantiser=quantiser))
    return f'<img class="{kind}" src="{source}" alt="{escape(words)}" title="{escape(words)}">'
