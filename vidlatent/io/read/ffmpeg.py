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

STDIN = "-"


def refuse_special(path: Path | str) -> None:
    """Raise BadVideo for a pipe or a device: it can be read once, or never ends, and has no size."""
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise BadVideo(f"{path}: a pipe or a device, no file", "write its contents into a file first")


def open_input(
    path: str, hwaccel: str | None = None, raw: RawFrames | None = None, pipe: Pipe | None = None
) -> InputContainer:
    """Open the container at `path`, or YUV4MPEG from `pipe`; frames laid out as in `raw` where that is given.

    Raises BadVideo where there is no such video.
    """
    if pipe is None and not Path(path).exists():
        raise BadVideo(f"{path}: no such file")
    if pipe is None:
        refuse_special(path)
    what, hint = "not a video, or one that libav cannot read", None
    if pipe is None and Path(path).is_file() and (playlist := describe_playlist(Path(path))):
        what = f"{playlist}, not a video: only what a file holds itself is read"
        hint = "give the videos that it names"
    if pipe is not None and not raw:
        what = "not YUV4MPEG"
        hint = f"say what raw frames are by {parameter('raw')} (WxH:PIX_FMT:FPS), give other videos as files"
    with naming_errors(path, what, hint):
        return _open_container(
            pipe or path, RAW if raw else YUV4MPEG if pipe else None, raw_options(raw) if raw else {}, hwaccel
        )


def _open_container(
    source: str | Pipe, kind: str | None, options: dict[str, str], hwaccel: str | None
) -> InputContainer:
    """Open libav's container; raises UsageError where it opens, but not with the accelerator asked for."""
    open_plainly = partial(open_video_file, source, kind, options)
    if hwaccel is None:
        return open_plainly()
    accelerator = _accelerator(hwaccel)
    try:
        return open_plainly(hwaccel=accelerator)
    except FFmpegError as e:
        if isinstance(source, str):
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
