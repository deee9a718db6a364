"""libav at arm's length: opening containers, and its errors in our words."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.error import FFmpegError

from vidlatent.errors import BadVideo, UsageError, parameter
from vidlatent.io.picture.info import RawFrames
from vidlatent.io.read.bare_frames import RAW, YUV4MPEG, Pipe, raw_options

STDIN = "-"


def open_input(
    path: str, hwaccel: str | None = None, raw: RawFrames | None = None, pipe: Pipe | None = None
) -> InputContainer:
    """The container at `path`, or YUV4MPEG from `pipe`; bare frames where `raw` tells of them.

    Raises BadVideo where it is none.
    """
    if pipe is None and not Path(path).exists():
        raise BadVideo(f"{path}: no such file")
    what, hint = "not a video, or one that libav cannot read", None
    if pipe is not None and not raw:
        what = "not YUV4MPEG"
        hint = f"say what raw frames are by {parameter('raw')} (WxH:PIX_FMT:FPS), give other videos as files"
    with naming_errors(path, what, hint):
        return _opened(
            pipe or path, RAW if raw else YUV4MPEG if pipe else None, raw_options(raw) if raw else {}, hwaccel
        )


def _opened(
    source: str | Pipe, kind: str | None, options: dict[str, str], hwaccel: str | None
) -> InputContainer:
    """libav's container; raises UsageError where only the accelerator is what it lacks."""
    plainly = partial(av.open, source, format=kind, options=options, metadata_errors="replace")
    if hwaccel is None:
        return plainly()
    accelerator = _accelerator(hwaccel)
    try:
        return plainly(hwaccel=accelerator)
    except FFmpegError as e:
        if isinstance(source, str):
            plainly().close()  # a video that cannot be opened at all is the video's own fault
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
    """libav's own words, without the numbers and names around them."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def use_threads(stream: object, threads: int) -> None:
    """Decode `stream` on `threads` threads (0 = all cores), cropped to its exact window."""
    context = stream.codec_context
    context.thread_type = "AUTO"
    context.thread_count = threads
    # Without this the left edge of a cropping window is rounded down to what SIMD likes.
    context.flags |= Flags.unaligned


def positive(rate: Fraction | None) -> Fraction | None:
    """A frame rate, or None where libav has none to tell."""
    return rate if rate is not None and rate > 0 else None
