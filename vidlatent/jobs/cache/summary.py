"""What a cache holds, counted up from its manifest: for a page to look at."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from vidlatent.dtypes import DTYPES
from vidlatent.io.latent.layout import ITEM_BYTES
from vidlatent.io.sources.ranges import StoredFile
from vidlatent.io.sources.urls import Root, find_common_folder, parse_root
from vidlatent.jobs.cache.captions import get_caption
from vidlatent.jobs.cache.manifest import (
    DAMAGED,
    FAILED,
    SKIPPED,
    Manifest,
    ManifestRow,
    refuse_unknown_recipe,
)
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.storing import INT8, name_store

LEFT_OUT, NO_VIDEO = "left out", "no video"  # rows that are skipped: by the recipe, or by their name
PROBLEMS = (FAILED, DAMAGED, LEFT_OUT)


@dataclass(frozen=True)
class ClipCard:
    """One clip to look at: its name below the folder that all lie in, what it is, and its thumbnails."""

    name: str
    words: str
    caption: str
    strip: Path | StoredFile | None


@dataclass(frozen=True)
class Summary:
    """A cache in numbers: how many clips came to what, how they are spread, and what went wrong.

    `spreads` are counts by what is counted, each ordered for people. `sizes` are the bytes that the latents
    take in each dtype, and the files of those that are in a smaller form; `stored` names how they are.
    `cards` are some of the clips.
    """

    root: Root
    states: Mapping[str, int]
    frames: int
    entries: int
    bytes: int
    hours: float
    models: tuple[str, ...]
    spreads: Mapping[str, Mapping[str, int]]
    sizes: Mapping[str, int]
    stored: tuple[str, ...]
    problems: Sequence[tuple[str, str]]
    cards: Sequence[ClipCard]
    captioned: int


def summarise(root: Root, recipe: str | None = None, shown: int = 120) -> Summary:
    """Count up a cache, or what one recipe made in it; `shown` clips, evenly chosen, are to be looked at.

    Raises UsageError where the cache knows no such recipe.
    """
    store = Store.open(root)
    manifest = Manifest(store)
    everything = list(manifest.rows())
    refuse_unknown_recipe(root, {row.recipe for row in everything}, recipe)
    rows = [row for row in everything if recipe in (None, row.recipe)]
    there = sorted(filter(manifest.is_present, rows), key=lambda row: (row.source, row.first_frame))
    once = list({row.key: row for row in there}.values())  # an entry may be that of several clips
    return Summary(
        root=parse_root(root),
        states=dict(sorted(Counter(name_state(row) for row in rows).items())),
        frames=sum(row.frames for row in there),
        entries=len(once),
        bytes=sum(row.bytes for row in once),
        hours=round(sum(row.seconds for row in once) / 3600, 2),
        models=tuple(sorted({row.model for row in once})),
        spreads=count_spreads(there),
        sizes=count_sizes(once),
        stored=tuple(sorted({name_store(row.form, row.dtype) for row in once})),
        problems=[(name, row.error or row.source) for row in rows if (name := name_state(row)) in PROBLEMS],
        cards=make_cards(store, choose_evenly(there, shown)),
        captioned=sum(bool(get_caption(row.facts)) for row in there),
    )


def name_state(row: ManifestRow) -> str:
    """What became of a clip, or of a file that is none, in a word."""
    if row.status != SKIPPED:
        return row.status
    return LEFT_OUT if row.is_left_out else NO_VIDEO


def count_spreads(rows: Sequence[ManifestRow]) -> dict[str, dict[str, int]]:
    """How many clips have which length, which size, and which shape of latents."""
    lengths = Counter(row.frames for row in rows)
    sizes = Counter((row.width, row.height) for row in rows)
    shapes = Counter(row.shape for row in rows)
    return {
        "Length in frames": {str(frames): lengths[frames] for frames in sorted(lengths)},
        "Size in pixels": {f"{w}x{h}": count for (w, h), count in sizes.most_common()},
        "Shape of the latents, [t, C, h, w]": {
            " × ".join(map(str, shape)): count for shape, count in shapes.most_common()
        },
    }


def count_sizes(rows: Sequence[ManifestRow]) -> dict[str, int]:
    """The bytes that latents would take in each dtype, and those of the files that are in other forms."""
    sizes = {name: sum(_bytes_as(row, dtype.stored) for row in rows) for name, dtype in DTYPES.items()}
    coded = Counter()
    for row in (row for row in rows if row.form):
        coded[name_store(row.form, row.dtype)] += row.bytes
    return {**sizes, **coded}


def _bytes_as(row: ManifestRow, stored: str) -> int:
    """The bytes of a clip's latents, and of their logvar where it is there, in a dtype."""
    values = prod(row.shape)
    parts = max(1, row.bytes // (values * (1 if row.form == INT8 else ITEM_BYTES[row.dtype])))
    return values * min(parts, 2) * ITEM_BYTES[stored]


def choose_evenly(rows: Sequence[ManifestRow], count: int) -> list[ManifestRow]:
    """So many rows at equal distances, or all."""
    if len(rows) <= count:
        return list(rows)
    return [rows[n * len(rows) // count] for n in range(count)]


def make_cards(store: Store, rows: Iterable[ManifestRow]) -> list[ClipCard]:
    """What is shown of clips."""
    rows = list(rows)
    folders = [str(Path(row.source).parent) for row in rows]
    common = find_common_folder(folders)
    return [_make_card(store, row, common) for row in rows]


def _make_card(store: Store, row: ManifestRow, common: Path) -> ClipCard:
    strip, source = store.thumbnail_path(row.key), Path(row.source)
    since = f", from frame {row.first_frame}" if row.first_frame else ""
    return ClipCard(
        name=(source.relative_to(common) if source.is_relative_to(common) else source).as_posix(),
        words=f"{row.width}x{row.height}, {row.frames} frames{since}",
        caption=get_caption(row.facts),
        strip=store.home.at(strip) if store.has(strip) else None,
    )
