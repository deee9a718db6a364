"""A cache as one HTML page that fetches nothing: what is in it, what is not, and what its clips look like."""

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from vidlatent.files import Kind, refuse_existing, refuse_foreign, replace_on_close
from vidlatent.jobs.cache.summary import ClipCard, Summary
from vidlatent.jobs.report.page import close_page, embed, open_page, read_part
from vidlatent.printable import encode_text

BARS = 24  # of one histogram; the rest is summed up
PROBLEMS = 200
CAPTION_LETTERS = 160
PAGE_STYLE = """
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: 0.2rem 0.7rem;
  align-items: center; font-size: 0.9rem; font-variant-numeric: tabular-nums; max-width: 46rem; }
.bars i { display: block; height: 0.8rem; min-width: 2px; background: var(--accent); border-radius: 2px; }
.bars .count { text-align: right; color: var(--soft); }
.clips { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: 1rem; }
.clips figure { margin: 0; min-width: 0; }
.clips img { width: 100%; height: auto; border-radius: 3px; }
.clips b { color: var(--ink); font-weight: 600; overflow-wrap: anywhere; }
.none { background: var(--line); border-radius: 3px; padding: 1.2rem; color: var(--soft); }
"""


TITLE = "a cache of latents"
PAGE = Kind("the page of a cache", (f"{TITLE}</title>".encode(),), within=1 << 12)


def write_page(summary: Summary, path: Path, force: bool = False) -> None:
    """Write the page of a cache to `path`."""
    refuse_existing(path, force)
    refuse_foreign(path, PAGE)
    with replace_on_close(path) as partial:
        partial.write_bytes(encode_text(make_page(summary)))


def make_page(summary: Summary) -> str:
    """The page as text."""
    root = summary.root.absolute() if isinstance(summary.root, Path) else summary.root
    title = f"{root.name}: {TITLE}"
    return "\n".join(
        [
            open_page(title, read_part("page.css") + PAGE_STYLE),
            f'<p class="lead">{escape(describe(summary))}</p>',
            *_list_sizes(summary),
            *(part for name, counts in summary.spreads.items() for part in _draw_bars(name, counts)),
            *_list_problems(summary),
            *_show_clips(summary),
            close_page(),
        ]
    )


def describe(summary: Summary) -> str:
    """The cache in a line or two."""
    states = ", ".join(f"{count:,} {state}" for state, count in summary.states.items()) or "nothing yet"
    return (
        f"Clips: {states}. {summary.captioned:,} have a caption. {summary.frames:,} frames in "
        f"{summary.entries:,} entries of {', '.join(summary.models) or 'no model'}; "
        f"{_spell(summary.bytes)} on disk, made in {summary.hours:g} hours."
    )


def _list_sizes(summary: Summary) -> Iterator[str]:
    if not summary.entries:
        return
    yield "<h2>Bytes of the latents</h2>"
    yield '<div class="scroll"><table><thead><tr><th>dtype</th><th class="number">bytes</th><th></th></tr>'
    yield "</thead>"
    for name, size in summary.sizes.items():
        now = "as they are stored" if name in summary.stored else "if they were stored so"
        yield f'<tr><td>{name}</td><td class="number">{_spell(size)}</td><td class="soft">{now}</td></tr>'
    yield "</table></div>"


def _draw_bars(name: str, counts: Mapping[str, int]) -> Iterator[str]:
    """A histogram of labelled bars."""
    if not counts:
        return
    shown = dict(list(counts.items())[:BARS])
    if len(counts) > BARS:
        shown[f"{len(counts) - BARS} more"] = sum(counts.values()) - sum(shown.values())
    most = max(shown.values())
    yield f'<h2>{escape(name)}</h2><div class="bars">'
    for label, count in shown.items():
        yield f'<span>{escape(label)}</span><i style="width:{100 * count / most:.2f}%"></i>'
        yield f'<span class="count">{count:,}</span>'
    yield "</div>"


def _list_problems(summary: Summary) -> Iterator[str]:
    if not summary.problems:
        return
    yield "<h2>What is not there, and why</h2><ul>"
    for state, reason in summary.problems[:PROBLEMS]:
        yield f"<li><b>{escape(state)}</b> {escape(reason.splitlines()[0])}</li>"
    if len(summary.problems) > PROBLEMS:
        yield f"<li>{len(summary.problems) - PROBLEMS:,} more: see <code>vidlatent cache status</code></li>"
    yield "</ul>"


def _show_clips(summary: Summary) -> Iterator[str]:
    if not summary.cards:
        return
    clips = sum(summary.spreads["Size in pixels"].values())
    of = f"{len(summary.cards)} of {clips:,}, evenly chosen" if clips > len(summary.cards) else f"all {clips}"
    yield f'<h2>Clips</h2><p class="soft">{of}.'
    if not any(card.strip for card in summary.cards):
        yield " They have no thumbnails: <code>cache --thumbnails N</code> keeps some when a clip is encoded."
    yield '</p><div class="clips">'
    yield from map(_show_clip, summary.cards)
    yield "</div>"


def _show_clip(card: ClipCard) -> str:
    name, words, caption = escape(card.name), escape(card.words), card.caption
    if len(caption) > CAPTION_LETTERS:
        caption = f"{caption[:CAPTION_LETTERS]} …"
    picture = '<div class="none">no thumbnail</div>'
    if card.strip is not None:
        data = embed("image/jpeg", card.strip.read_bytes())
        picture = f'<img src="{data}" alt="{name}" loading="lazy">'
    said = f"<br>{escape(caption)}" if caption else ""
    return f"<figure>{picture}<figcaption><b>{name}</b><br>{words}{said}</figcaption></figure>"


def _spell(size: int) -> str:
    """Bytes in a unit that suits them."""
    value, units = float(size), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.3g} {units[0]}"
