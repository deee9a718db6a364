"""What is to be cached: folders, globs, tables and WebDataset tars become a stream of clips."""

import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from glob import glob, has_magic
from pathlib import Path

from vidlatent.errors import BadInput, UsageError, VidlatentError
from vidlatent.jobs.cache.captions import (
    CAPTION,
    CAPTION_EXTENSIONS,
    find_caption_beside,
    find_caption_in_json,
    name_caption,
    read_caption_text,
)
from vidlatent.jobs.cache.tables import TABLES, read_table
from vidlatent.json_values import to_plain_json

# Files that lie beside videos in data sets: each gets a row that says so, and none is opened.
SIDECARS = {
    *(".txt", ".caption", ".json", ".jsonl", ".csv", ".tsv", ".parquet"),
    *(".md", ".yaml", ".yml", ".toml", ".xml"),
    *(".srt", ".vtt", ".ass", ".npy", ".npz", ".pt", ".pth", ".safetensors", ".latent", ".py", ".log"),
    *(".wav", ".mp3", ".flac", ".aac", ".m4a", ".ogg", ".opus", ".sha256", ".md5"),
}
TARS = (".tar",)
PATH_COLUMNS = (
    *("path", "video_path", "media_path", "file_path"),
    *("video", "file_name", "filename", "file"),
)
MEMBER = "::"  # between a tar and the name of a file in it


@dataclass(frozen=True, slots=True)  # millions of them are held
class Clip:
    """One video to cache.

    `member` is (offset, bytes) of a video inside the tar at `path`; None: the file is the video.
    `start`, `end` (seconds) and `frames` count instead of those of the recipe. `facts` are carried along into
    the manifest, as plain JSON values; the one named `caption` is the clip's caption. `error` says why the
    clip is not to be encoded, such as a caption that cannot be read. `is_caption` is set for files that by
    their extension hold captions.
    """

    path: Path
    name: str
    member: tuple[int, int] | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    frames: int | None = None
    facts: Mapping[str, object] = field(default_factory=dict)
    error: VidlatentError | None = None
    is_caption: bool = False

    @property
    def is_sidecar(self) -> bool:
        """Whether the file's name alone says that it is no video."""
        return self.is_caption or Path(self.name).suffix.lower() in SIDECARS


def scan(
    sources: Iterable[str], cache: Path, captions: tuple[str, ...] = CAPTION_EXTENSIONS
) -> Iterator[Clip]:
    """Every file of every source once, in a fixed order; files in the folder `cache` are left out.

    `captions` are the extensions of files that hold the caption of the video beside them.
    """
    seen: set[tuple] = set()
    for source in sources:
        for clip in _scan_source(source, cache.absolute(), captions):
            identity = (clip.name, clip.start, clip.end, clip.frames)
            if identity not in seen:
                seen.add(identity)
                yield clip


def _scan_source(source: str, cache: Path, captions: tuple[str, ...]) -> Iterator[Clip]:
    path = Path(source)
    if path.is_dir():
        yield from _scan_files(_walk(path, cache), captions)
    elif path.suffix.lower() in TABLES and path.exists():
        yield from scan_table(path)
    elif path.exists():
        yield from _scan_files([path], captions)
    elif has_magic(source):
        found = sorted(Path(p) for p in glob(source, recursive=True) if Path(p).is_file())
        if not found:
            raise UsageError(f"{source}: matches no file", "quote the pattern, and check it with ls")
        yield from _scan_files(found, captions)
    else:
        raise UsageError(f"{source}: no such file or folder", "name a folder, a glob, a table or tars")


def _walk(folder: Path, cache: Path) -> Iterator[Path]:
    """The files below a folder, sorted, without hidden ones."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.absolute() == cache:
            continue
        if path.is_dir():
            yield from _walk(path, cache)
        else:
            yield path


def _scan_files(paths: Iterable[Path], captions: tuple[str, ...]) -> Iterator[Clip]:
    for path in paths:
        if path.suffix.lower() in TARS:
            yield from scan_tar(path, captions)
        else:
            yield _make_file_clip(path, captions)


def _make_file_clip(path: Path, captions: tuple[str, ...]) -> Clip:
    """The clip of a file, with the caption that lies beside it."""
    clip = Clip(path, os.path.abspath(path), is_caption=path.suffix.lower() in captions)
    if clip.is_sidecar or (beside := find_caption_beside(path, captions)) is None:
        return clip
    try:
        return replace(clip, facts={CAPTION: read_caption_text(beside.read_bytes(), str(beside))})
    except OSError as e:
        return replace(clip, error=BadInput(f"{beside}: cannot be read ({e.strerror})"))
    except BadInput as e:
        return replace(clip, error=e)


def scan_tar(path: Path, captions: tuple[str, ...] = CAPTION_EXTENSIONS) -> Iterator[Clip]:
    """The videos of a WebDataset tar, each with the texts of its sample: `a.mp4` with `a.txt`, `a.json`."""
    endings = tuple(dict.fromkeys((*captions, ".txt", ".json")))
    try:
        with tarfile.open(path, "r:") as archive:
            members = [m for m in archive if m.isfile()]
            texts = {m.name: archive.extractfile(m).read() for m in members if _is_text(m, endings)}
    except (tarfile.TarError, OSError, EOFError) as e:
        raise BadInput(
            f"{path}: not a tar that can be read to its end ({e})", "compressed tars are not read"
        ) from e
    for member in members:
        key, suffix = _split_name(member.name)
        if f".{suffix}" in SIDECARS or f".{suffix}" in captions:
            continue
        name = f"{os.path.abspath(path)}{MEMBER}{member.name}"
        clip = Clip(path, name, (member.offset_data, member.size))
        beside = {ending: texts[key + ending] for ending in endings if key + ending in texts}
        try:
            yield replace(clip, facts=_read_texts(beside, captions, f"{path}{MEMBER}{key}"))
        except BadInput as e:
            yield replace(clip, error=e)


def _is_text(member: tarfile.TarInfo, endings: tuple[str, ...]) -> bool:
    return member.name.endswith(endings) and member.size < 1 << 20


def _read_texts(texts: Mapping[str, bytes], captions: tuple[str, ...], where: str) -> dict[str, object]:
    """The texts of a sample as facts, by their endings; the first of captions is the caption, too."""
    facts: dict[str, object] = {
        ending.removeprefix("."): read_caption_text(raw, where + ending) for ending, raw in texts.items()
    }
    found = (str(facts[ending.removeprefix(".")]) for ending in captions if ending in texts)
    caption = next(found, None) or find_caption_in_json(str(facts.get("json", "")))
    return facts if caption is None else {**facts, CAPTION: caption}


def _split_name(name: str) -> tuple[str, str]:
    """A member's sample, and its kind: WebDataset splits names at the first dot after the folder."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return f"{folder}{slash}{stem}", suffix.rpartition(".")[2].lower()


def scan_table(path: Path) -> Iterator[Clip]:
    """The clips of a CSV, TSV, JSONL or parquet table. Relative paths begin at the table's folder."""
    for number, row in enumerate(read_table(path), start=1):
        column = next((c for c in PATH_COLUMNS if row.get(c)), None)
        if column is None:
            raise BadInput(
                f"{path}: row {number} has no path (columns: {', '.join(map(str, row))})",
                f"name the column one of {', '.join(PATH_COLUMNS)}",
            )
        video, own = path.parent / str(row[column]), (column, "start", "end", "frames")
        yield Clip(
            video,
            os.path.abspath(video),
            start=_parse_seconds(row, "start", path, number),
            end=_parse_seconds(row, "end", path, number),
            frames=_parse_count(row, path, number),
            facts=name_caption(to_plain_json({k: v for k, v in row.items() if k not in own})),
        )


def _parse_seconds(row: Mapping[str, object], name: str, path: Path, number: int) -> Fraction | None:
    if row.get(name) in (None, ""):
        return None
    try:
        return Fraction(str(row[name]))
    except ValueError as e:
        raise BadInput(f"{path}: row {number}: {name} {row[name]!r} is not a number of seconds") from e


def _parse_count(row: Mapping[str, object], path: Path, number: int) -> int | None:
    if row.get("frames") in (None, ""):
        return None
    try:
        frames = int(str(row["frames"]))
    except ValueError:
        frames = 0
    if frames < 1:
        raise BadInput(f"{path}: row {number}: frames {row['frames']!r} is not a number of frames")
    return frames
