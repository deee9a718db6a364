"""What is to be cached: folders, globs, tables and WebDataset tars become a stream of clips."""

import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from glob import glob, has_magic
from pathlib import Path

from vidlatent.errors import BadInput, UsageError
from vidlatent.jobs.cache.tables import TABLES, read_table

# Files that lie beside videos in data sets: each gets a row that says so, and none is opened.
SIDECARS = {
    *(".txt", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".md", ".yaml", ".yml", ".toml", ".xml"),
    *(".srt", ".vtt", ".ass", ".npy", ".npz", ".pt", ".pth", ".safetensors", ".latent", ".py", ".log"),
    *(".wav", ".mp3", ".flac", ".aac", ".m4a", ".ogg", ".opus", ".sha256", ".md5"),
}
TARS = (".tar",)
PATH_COLUMNS = ("path", "video_path", "video", "file_name", "filename", "file")
MEMBER = "::"  # between a tar and the name of a file in it


@dataclass(frozen=True, slots=True)  # millions of them are held
class Clip:
    """One video to cache.

    `member` is (offset, bytes) of a video inside the tar at `path`; None: the file is the video.
    `start`, `end` (seconds) and `frames` count instead of those of the recipe. `facts`, such as a caption,
    are carried along into the manifest.
    """

    path: Path
    name: str
    member: tuple[int, int] | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    frames: int | None = None
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_sidecar(self) -> bool:
        """Whether the file's name alone says that it is no video."""
        return Path(self.name).suffix.lower() in SIDECARS


def scan(sources: Iterable[str], cache: Path) -> Iterator[Clip]:
    """Every file of every source once, in a fixed order; files in the folder `cache` are left out."""
    seen: set[tuple] = set()
    for source in sources:
        for clip in _scan_source(source, cache.absolute()):
            identity = (clip.name, clip.start, clip.end, clip.frames)
            if identity not in seen:
                seen.add(identity)
                yield clip


def _scan_source(source: str, cache: Path) -> Iterator[Clip]:
    path = Path(source)
    if path.is_dir():
        yield from _scan_files(_walk(path, cache))
    elif path.suffix.lower() in TABLES and path.exists():
        yield from scan_table(path)
    elif path.exists():
        yield from _scan_files([path])
    elif has_magic(source):
        found = sorted(Path(p) for p in glob(source, recursive=True) if Path(p).is_file())
        if not found:
            raise UsageError(f"{source}: matches no file", "quote the pattern, and check it with ls")
        yield from _scan_files(found)
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


def _scan_files(paths: Iterable[Path]) -> Iterator[Clip]:
    for path in paths:
        if path.suffix.lower() in TARS:
            yield from scan_tar(path)
        else:
            yield Clip(path, os.path.abspath(path))


def scan_tar(path: Path) -> Iterator[Clip]:
    """The videos of a WebDataset tar, each with the texts of its sample: `a.mp4` with `a.txt`, `a.json`."""
    try:
        with tarfile.open(path, "r:") as archive:
            members = [m for m in archive if m.isfile()]
            texts = {m.name: archive.extractfile(m).read() for m in members if _is_text(m)}
    except (tarfile.TarError, OSError, EOFError) as e:
        raise BadInput(
            f"{path}: not a tar that can be read to its end ({e})", "compressed tars are not read"
        ) from e
    for member in members:
        key, suffix = _split_name(member.name)
        if f".{suffix}" in SIDECARS:
            continue
        facts = {
            ext: texts[name].decode(errors="replace").strip()
            for ext in ("txt", "json")
            if (name := f"{key}.{ext}") in texts
        }
        name = f"{os.path.abspath(path)}{MEMBER}{member.name}"
        yield Clip(path, name, (member.offset_data, member.size), facts=facts)


def _is_text(member: tarfile.TarInfo) -> bool:
    return member.name.endswith((".txt", ".json")) and member.size < 1 << 20


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
        video = path.parent / str(row[column])
        yield Clip(
            video,
            os.path.abspath(video),
            start=_parse_seconds(row, "start", path, number),
            end=_parse_seconds(row, "end", path, number),
            frames=_parse_count(row, path, number),
            facts={k: v for k, v in row.items() if k not in (column, "start", "end", "frames")},
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
