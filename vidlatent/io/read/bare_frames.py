"""Videos that are only frames, without index or length: YUV4MPEG and raw video, from a file or a pipe.

Where the last frame of such a video is cut off, libav ends the video and reports nothing, so the bytes are
counted here.
"""

from typing import BinaryIO

from av import VideoFormat
from av.packet import Packet

from vidlatent.errors import UsageError, parameter
from vidlatent.io.picture.info import RawFrames
from vidlatent.io.sources.source import Source, measure_bytes

YUV4MPEG = "yuv4mpegpipe"
RAW = "rawvideo"


class Pipe:
    """A stream that cannot seek, as libav reads it; `read_bytes` counts what was read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.read_bytes = 0

    def read(self, size: int) -> bytes:
        """The next bytes, `size` at most; empty at the end."""
        data = self._stream.read(size)
        self.read_bytes += len(data)
        return data


def raw_options(raw: RawFrames) -> dict[str, str]:
    """The options by which libav reads raw frames; raises UsageError for a layout it does not know."""
    try:
        layout = VideoFormat(raw.pix_fmt)
    except ValueError as e:
        raise UsageError(
            f"{parameter('raw')}: unknown pixel format {raw.pix_fmt!r}",
            "for instance yuv420p, nv12, yuv420p10le, rgb24",
        ) from e
    if not layout.components or layout.has_palette or min(raw.width, raw.height) < 1:
        raise UsageError(
            f"{parameter('raw')} {raw}: no such frames can lie in a row", "for instance 320x240:yuv420p:25"
        )
    return {
        "video_size": f"{raw.width}x{raw.height}",
        "pixel_format": raw.pix_fmt,
        "framerate": str(raw.rate),
    }


class CutOffCheck:
    """Finds out whether the last frame is cut off: remembers where in the bytes the last whole one ended."""

    def __init__(self, source: Source, pipe: Pipe | None) -> None:
        self._source, self._pipe = source, pipe
        self._frame_bytes = 0
        self._end: int | None = None

    def is_whole(self, packet: Packet) -> bool:
        """Whether a packet holds a whole frame; the first packet says how many bytes that is."""
        self._frame_bytes = self._frame_bytes or packet.size
        if 0 < packet.size < self._frame_bytes:
            return False
        if packet.size and packet.pos is not None:
            self._end = packet.pos + packet.size
        return True

    def find_fault(self) -> str | None:
        """What is wrong with the end, in words; None where the last frame is whole. Call it at the end."""
        if self._end is None:
            return None
        total = self._pipe.read_bytes if self._pipe else measure_bytes(self._source)
        left = total - self._end
        return f"cut off after {left:,} bytes, a whole one has {self._frame_bytes:,}" if left > 0 else None
