"""What must be known of a source before it is encoded: the sha256 of its bytes, and what its header says."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vidlatent.errors import VidlatentError
from vidlatent.file_state import State
from vidlatent.io.read.ffmpeg import refuse_special
from vidlatent.io.read.source import ReadOptions, VideoInfo, open_video

TarMember = tuple[int, int] | None  # (offset, bytes) of a video inside a tar; None: the file is the video
Beat = Callable[[], None]  # called again and again by what takes long: a sign of life
_BLOCK_BYTES = 1 << 20


def no_beat() -> None:
    """For work that nobody watches."""


@dataclass(frozen=True)
class Probe:
    """What a video's header and first frame say: displayed size, aspect `sar`, expected frames and seconds.

    `first_s` is the time of the first frame, looked up only where videos are cut into clips.
    """

    width: int
    height: int
    sar: Fraction
    frames: int | None
    duration_s: Fraction | None
    rate: Fraction | None
    first_s: Fraction | None = None


@dataclass(frozen=True)
class Look:
    """The question what a source is.

    With `hashed` its bytes are hashed; with `timed` its first frame is decoded, to know the frame's time.
    """

    path: Path
    member: TarMember = None
    stream: int = 0
    hashed: bool = True
    timed: bool = False


@dataclass(frozen=True)
class Seen:
    """The answer to Look. Of what is no video there is an `error`, and the hash all the same.

    `state` is that of the file (the tar, the files of the folder) when it was looked at.
    """

    sha256: str = ""
    probe: Probe | None = None
    error: VidlatentError | None = None
    state: State = None


@contextmanager
def put_on_disk(path: Path, member: TarMember, beat: Beat) -> Iterator[Path]:
    """The file itself; a member of a tar as a temporary file while the block runs.

    Raises BadVideo for a pipe or a device, which could be read once, or for ever.
    """
    refuse_special(path)
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


def hash_source(path: Path, beat: Beat) -> str:
    """sha256 of a file's bytes, or of the names and bytes of all files in a folder of images."""
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


def look_at(path: Path, ask: Look, beat: Beat) -> Seen:
    """Hash and probe the file at `path`; raises OSError where it cannot be read at all."""
    sha256 = hash_source(path, beat) if ask.hashed else ""
    with open_video(path, ReadOptions(stream=ask.stream, threads=1)) as video:
        first = next(video.frames()).pts * video.info.time_base if ask.timed else None
        return Seen(sha256, make_probe(video.info, first))


def make_probe(info: VideoInfo, first_s: Fraction | None) -> Probe:
    """The few facts of a video that planning needs."""
    frames, duration, rate = info.header_frames, info.header_duration, info.average_rate
    if frames is None and duration is not None and rate is not None:
        frames = max(1, round(duration * rate))
    if duration is None and frames is not None and rate is not None:
        duration = frames / rate
    return Probe(info.width, info.height, info.sar, frames, duration, rate, first_s)
