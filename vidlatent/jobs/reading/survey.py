"""What must be known of a source before it is encoded: the sha256 of its bytes, and what its header says."""

from dataclasses import dataclass
from fractions import Fraction

from vidlatent.errors import VidlatentError
from vidlatent.file_state import State
from vidlatent.io.read.source import ReadOptions, VideoInfo, open_video
from vidlatent.io.sources.source import Beat, Source


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

    source: Source
    stream: int = 0
    hashed: bool = True
    timed: bool = False


@dataclass(frozen=True)
class Seen:
    """The answer to Look. Of what is no video there is an `error`, and the hash all the same.

    `state` is that of the source when it was looked at.
    """

    sha256: str = ""
    probe: Probe | None = None
    error: VidlatentError | None = None
    state: State = None


def look_at(ask: Look, beat: Beat) -> Seen:
    """Hash and probe a source; raises OSError where it cannot be read at all."""
    sha256 = ask.source.sha256(beat) if ask.hashed else ""
    with open_video(ask.source, ReadOptions(stream=ask.stream, threads=1)) as video:
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
