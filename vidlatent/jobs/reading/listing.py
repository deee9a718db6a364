"""The clips that a table or a WebDataset tar names. This runs in a reading process: it may hang, or die."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from typing import BinaryIO

from vidlatent.errors import BadInput
from vidlatent.io.sources.disk import DiskSource
from vidlatent.io.sources.member import MEMBER, MemberSource
from vidlatent.io.sources.source import Beat, no_beat
from vidlatent.io.sources.stored import StoredSource, find_source_beside
from vidlatent.io.tar import TarMember, TornTar, list_tar, open_tar, split_name
from vidlatent.jobs.reading.captions import (
    CAPTION,
    CAPTION_EXTENSIONS,
    MOST_CAPTION_BYTES,
    find_caption_in_json,
    name_caption,
    read_caption_text,
)
from vidlatent.jobs.reading.clip import SIDECARS, Clip
from vidlatent.jobs.reading.tables import PATH_COLUMNS, read_table
from vidlatent.json_values import to_plain_json

Origin = DiskSource | StoredSource
TARS = (".tar",)
_MOST_TEXTS = 1_000_000  # of one tar: those behind are left out
_NUMBER = re.compile(r"[+-]?\d{1,18}(\.\d{0,18})?([eE][+-]?\d{1,2})?|[+-]?\.\d{1,18}|\d{1,18}/\d{1,18}")


def list_clips(
    source: DiskSource, captions: tuple[str, ...], beat: Beat, origin: Origin | None = None
) -> Iterator[Clip]:
    """The clips of a table or a tar, in order. What is wrong with one of them is told by the clip itself.

    `captions` are the extensions of texts in a tar that hold captions. Where the source is a copy of
    `origin`, the clips lie in that, or beside it.
    """
    if source.path.suffix.lower() in TARS:
        return list_tar_clips(source, origin or source, captions, beat)
    return list_table_clips(source, origin or source)


def make_bad_clip(source: Origin, error: BadInput, place: str = "") -> Clip:
    """The row of a source, or of one place in it, that cannot be read."""
    name = source.full_name
    return Clip(source, f"{name}{MEMBER}{place}" if place else name, error=error, unreadable=True)


def list_tar_clips(
    source: DiskSource,
    origin: Origin,
    captions: tuple[str, ...] = CAPTION_EXTENSIONS,
    beat: Beat = no_beat,
) -> Iterator[Clip]:
    """The videos of a WebDataset tar, each with the texts of its sample: `a.mp4` with `a.txt`, `a.json`.

    The tar is gone through twice, because texts may lie anywhere in it. A name that comes twice is two clips.
    Where the tar ends too early, the clips before that are given, and a last one that tells of it.
    """
    named: Counter[str] = Counter()
    endings = tuple(dict.fromkeys((*captions, ".txt", ".json")))
    try:
        with open_tar(source.path) as tar:
            texts = _find_texts(tar, endings, beat)
            for member in list_tar(tar):
                beat()
                if _is_no_video(member.name, captions):
                    continue
                named[member.name] += 1
                clip = _make_member_clip(origin, member, named[member.name])
                yield _add_texts(clip, tar, member, texts, captions)
    except TornTar as e:
        what = f"{source.name}: not a tar that can be read to its end ({e})"
        yield make_bad_clip(origin, BadInput(what, _TAR_HINT))


def _is_no_video(name: str, captions: tuple[str, ...]) -> bool:
    """Whether a member is none by its name: one that lies beside videos, or is hidden, as macOS has them."""
    return os.path.splitext(name)[1].lower() in SIDECARS | set(captions) or os.path.basename(name).startswith(
        "."
    )


_TAR_HINT = "compressed tars are not read; clips before that place are"


def _find_texts(tar: BinaryIO, endings: tuple[str, ...], beat: Beat) -> dict[str, TarMember]:
    """The captions and tags among the members, by name, as far as the tar can be read."""
    found: dict[str, TarMember] = {}
    with suppress(TornTar):
        for member in list_tar(tar):
            beat()
            small = member.fault is None and member.size < MOST_CAPTION_BYTES
            if small and member.name.endswith(endings) and len(found) < _MOST_TEXTS:
                found[member.name] = member
    return found


def _add_texts(
    clip: Clip, tar: BinaryIO, member: TarMember, texts: Mapping[str, TarMember], captions: tuple[str, ...]
) -> Clip:
    """The clip with the texts of its sample as facts, by their endings; the first caption is its caption."""
    sample, _ = split_name(member.name)
    tar_name = clip.source.name.partition(MEMBER)[0]
    facts: dict[str, object] = {}
    try:
        for ending in dict.fromkeys((*captions, ".txt", ".json")):
            if (text := texts.get(sample + ending)) is not None:
                name = f"{tar_name}{MEMBER}{text.name}"
                facts[ending.removeprefix(".")] = read_caption_text(text.read(tar), name)
    except BadInput as e:
        return replace(clip, error=clip.error or e)
    found = (str(facts[key]) for ending in captions if (key := ending.removeprefix(".")) in facts)
    caption = next(found, None) or find_caption_in_json(str(facts.get("json", "")))
    return replace(clip, facts=facts if caption is None else {**facts, CAPTION: caption})


def _make_member_clip(tar: Origin, member: TarMember, nth: int) -> Clip:
    inside = f"{MEMBER}{member.name}{f' ({nth})' if nth > 1 else ''}"
    name = f"{tar.full_name}{inside}"
    if member.fault is not None:
        error = BadInput(f"{tar.name}{MEMBER}{member.name}: {member.fault}", "pack it as a plain file")
        return Clip(tar, name, error=error, unreadable=True)
    return Clip(MemberSource(tar, f"{tar.name}{inside}", member.offset, member.size), name)


def list_table_clips(source: DiskSource, origin: Origin) -> Iterator[Clip]:
    """The clips of a CSV, TSV, JSONL or parquet table. Relative paths begin at the table's folder."""
    try:
        for number, row in read_table(source):
            try:
                if isinstance(row, BadInput):
                    raise row
                yield _make_row_clip(origin, number, row)
            except BadInput as e:
                yield make_bad_clip(origin, e, f"row {number}")
            except ValueError as e:  # of what looks at a word in it, such as an address
                wrong = BadInput(f"{origin.name}: row {number}: {e}", "correct that row")
                yield make_bad_clip(origin, wrong, f"row {number}")
    except BadInput as e:
        yield make_bad_clip(origin, e)


def _make_row_clip(table: Origin, number: int, row: Mapping[str, object]) -> Clip:
    column = next((c for c in PATH_COLUMNS if row.get(c)), None)
    if column is None:
        raise BadInput(
            f"{table.name}: row {number} has no path (columns: {', '.join(map(str, row))[:200]})",
            f"name the column one of {', '.join(PATH_COLUMNS)}",
        )
    named = row[column]
    if not isinstance(named, str) or "\0" in named:
        raise BadInput(f"{table.name}: row {number}: {column} {str(named)[:80]!r} is no path")
    video, own = find_source_beside(table, named), (column, "start", "end", "frames")
    facts = to_plain_json({name: value for name, value in row.items() if name not in own})
    return Clip(
        video,
        video.full_name,
        start=_parse_seconds(row, "start", table.name, number),
        end=_parse_seconds(row, "end", table.name, number),
        frames=_parse_count(row, table.name, number),
        facts=name_caption(facts),
    )


def _parse_seconds(row: Mapping[str, object], name: str, table: str, number: int) -> Fraction | None:
    """A time, exactly. Numbers of a size that is no time are refused before anything is computed of them."""
    value = row.get(name)
    if value in (None, ""):
        return None
    text = str(value).strip()
    if not _NUMBER.fullmatch(text) or re.search(r"/0+$", text):
        raise BadInput(f"{table}: row {number}: {name} {text[:80]!r} is not a number of seconds")
    return Fraction(text)


def _parse_count(row: Mapping[str, object], table: str, number: int) -> int | None:
    value = row.get("frames")
    if value in (None, ""):
        return None
    text = str(value).strip()
    if not re.fullmatch(r"\+?\d{1,18}", text) or not int(text):
        raise BadInput(f"{table}: row {number}: frames {text[:80]!r} is not a number of frames")
    return int(text)
