"""What the readers need of libav: opening containers, and turning its errors into ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path

from av.codec.context import Flags
from av.container import InputContainer
from av.error import FFmpegError

from vidlatent.errors import BadVideo, UsageError, parameter
from vidlatent.io.containers import describe_playlist, open_video_file
from vidlatent.io.picture.info import RawFrames
from vidlatent.io.read.bare_frames import RAW, YUV4MPEG, Pipe, raw_options
from vidlatent.io.sources.disk import DiskSource, refuse_special
from vidlatent.io.sources.source import Source

STDIN = "-"


def open_input(
    source: Source, hwaccel: str | None = None, raw: RawFrames | None = None, pipe: Pipe | None = None
) -> InputContainer:
    """Open the container of a source, or YUV4MPEG from `pipe`; frames as in `raw` where that is given.

    Raises BadVideo where there is no such video.
    """
    if isinstance(source, DiskSource):
        if not source.path.exists():
            raise BadVideo(f"{source.name}: no such file")
        refuse_special(source)
    what = "not a video, or one that libav cannot read"
    hint = "try another player; an .mp4 or .mov that was cut off has lost its index, and must be copied again"
    with source.open() as file:
        playlist = describe_playlist(file)
    if playlist:
        what = f"{playlist}, not a video: only what a file holds itself is read"
        hint = "give the videos that it names"
    if pipe is not None and not raw:
        what = "not YUV4MPEG"
        hint = f"say what raw frames are by {parameter('raw')} (WxH:PIX_FMT:FPS), give other videos as files"
    kind, options = RAW if raw else YUV4MPEG if pipe else None, raw_options(raw) if raw else {}
    with naming_errors(source.name, what, hint):
        return _open_container(pipe or source, kind, options, hwaccel)


def _open_container(
    source: Source | Pipe, kind: str | None, options: dict[str, str], hwaccel: str | None
) -> InputContainer:
    """Open libav's container; raises UsageError where it opens, but not with the accelerator asked for.

    A file on a disk is read by libav itself, which is fastest.
    """
    if isinstance(source, DiskSource):
        source = source.path
    elif not isinstance(source, Pipe):
        source = source.open()
    open_plainly = partial(open_video_file, source, kind, options)
    if hwaccel is None:
        return open_plainly()
    accelerator = _accelerator(hwaccel)
    try:
        return open_plainly(hwaccel=accelerator)
    except FFmpegError as e:
        if isinstance(source, Path):
            open_plainly().close()  # raises libav's own error where the video itself is at fault
        raise UsageError(
            f"{parameter('hwaccel')} {hwaccel}: no such device works on this machine ({reason(e)})",
            "decode without it",
        ) from e


def _accelerator(name: str) -> object:
    from av.codec.hwaccel import HWAccel, hwdevices_available

    if name not in hwdevices_available():
        known = ", ".join(hwdevices_available()) or "none"
        raise UsageError(f"{parameter('hwaccel')} {name}: not in this build of libav", f"available: {known}")
    return HWAccel(device_type=name, allow_software_fallback=True)


@contextmanager
def naming_errors(path: str, what: str, hint: str | None = None) -> Iterator[None]:
    """Turn libav's errors into a BadVideo that names `path` and says `what`."""
    try:
        yield
    except (FFmpegError, UnicodeError, ValueError) as e:
        raise BadVideo(f"{path}: {what} ({reason(e)})", hint) from e


def reason(error: BaseException) -> str:
    """libav's own message, without the error numbers and file names around it."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def use_threads(stream: object, threads: int) -> None:
    """Let `stream` decode on `threads` threads (0 = all cores), cropped to its exact window."""
    context = stream.codec_context
    context.thread_type = "AUTO"
    context.thread_count = threads
    # Without this the left edge of a cropping window is rounded down to what SIMD likes.
    context.flags |= Flags.unaligned


def positive(rate: Fraction | None) -> Fraction | None:
    """A rate or ratio of libav's; None where it is 0 or missing, which means unknown."""
    return rate if rate is not None and rate > 0 else None
