"""What must be known of a source before it is encoded: its bytes' sha256, and what its header says."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vidlatent.errors import VidlatentError
from vidlatent.io.read.source import ReadOptions, VideoInfo, open_video
from vidlatent.jobs.reading.probe import Probe

Member = tuple[int, int] | None  # (offset, bytes) inside a tar
State = tuple[int, int] | None  # (bytes, modification time in ns); None for a folder of images
Beat = Callable[[], None]  # called now and then by what takes long
_BLOCK_BYTES = 1 << 20


def state_of(path: Path) -> State:
    """By what a file is known to have changed; None where there is none, or a folder."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns) if not path.is_dir() else None


@dataclass(frozen=True)
class Look:
    """A source to look at; `hashed` False leaves its bytes unread, `timed` finds the first frame's time."""

    path: Path
    member: Member = None
    stream: int = 0
    hashed: bool = True
    timed: bool = False


@dataclass(frozen=True)
class Seen:
    """What was found: `error` where it is no video; the hash is there even then.

    `state` is the file's (the tar's) size and modification time when it was looked at.
    """

    sha256: str = ""
    probe: Probe | None = None
    error: VidlatentError | None = None
    state: State = None


@contextmanager
def on_disk(path: Path, member: Member, beat: Beat) -> Iterator[Path]:
    """The file itself; a tar's member as a temporary file while the block runs."""
    if member is None:
        yield path
        return
    offset, size = member
    with tempfile.NamedTemporaryFile(prefix="vidlatent-", suffix=".member") as copy, path.open("rb") as tar:
        tar.seek(offset)
        while size and (block := tar.read(min(size, _BLOCK_BYTES))):
            copy.write(block)
            size -= len(block)
            beat()
        copy.flush()
        yield Path(copy.name)


def hashed(path: Path, beat: Beat) -> str:
    """sha256 of a file's bytes; of a folder's files and their names, where the clip is a folder of images."""
    if not path.is_dir():
        return _file_sha256(path, beat)
    listed = ((p.name, _file_sha256(p, beat)) for p in sorted(path.iterdir()) if p.is_file())
    return hashlib.sha256("".join(f"{name}\0{sha}\n" for name, sha in listed).encode()).hexdigest()


def _file_sha256(path: Path, beat: Beat) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            beat()
    return digest.hexdigest()


def look(path: Path, ask: Look, beat: Beat) -> Seen:
    """Hash and probe the file at `path`; raises OSError where it cannot be read at all."""
    sha256 = hashed(path, beat) if ask.hashed else ""
    with open_video(path, ReadOptions(stream=ask.stream, threads=1)) as video:
        first = next(video.frames()).pts * video.info.time_base if ask.timed else None
        return Seen(sha256, probed(video.info, first))


def probed(info: VideoInfo, first_s: Fraction | None) -> Probe:
    """The few facts of a video that planning needs."""
    frames, duration, rate = info.header_frames, info.header_duration, info.average_rate
    if frames is None and duration is not None and rate is not None:
        frames = max(1, round(duration * rate))
    if duration is None and frames is not None and rate is not None:
        duration = frames / rate
    return Probe(info.width, info.height, info.sar, frames, duration, rate, first_s)
