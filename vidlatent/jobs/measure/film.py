"""A few seconds of a clip beside what became of it, as one small film for a report.

Both halves are in one picture, so a player cannot let them drift apart.
"""

import io
from fractions import Fraction

import av
import numpy as np

from vidlatent.jobs.measure.pictures import to_eight_bits

HALF_PX = 480  # widest half; a wider clip is scaled down
MOST_BYTES = 1_500_000  # then the film ends, however many seconds were asked for
BITS_PER_SECOND = 2_500_000
TICKS = 90_000  # of a second: the film keeps the times of the clip
MUX = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "500000"}


class Film:
    """Collects pairs of frames until `seconds` of the clip, or `MOST_BYTES`, are full."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._file = io.BytesIO()
        self._container: av.container.OutputContainer | None = None
        self._stream: av.VideoStream | None = None
        self._open = seconds > 0

    def update(self, reference: np.ndarray, distorted: np.ndarray, time_s: float) -> None:
        """Add a pair of frames, each [H, W, 3], shown at `time_s` seconds, unless the film is full."""
        if not self._open:
            return
        if time_s >= self._seconds or self._file.tell() > MOST_BYTES:
            self._open = False
            return
        halves = [_shrink(to_eight_bits(side)) for side in (reference, distorted)]
        height, width, _ = halves[0].shape
        if self._stream is None:
            self._begin(2 * width, height)
        frame = av.VideoFrame.from_ndarray(np.concatenate(halves, axis=1), "rgb24")
        frame.pts, frame.time_base = round(time_s * TICKS), Fraction(1, TICKS)
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> bytes:
        """The film as MP4; nothing where no frame was added."""
        if self._stream is None:
            return b""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._file.getvalue()

    def _begin(self, width: int, height: int) -> None:
        self._container = av.open(self._file, "w", format="mp4", options=MUX)
        rate = {"maxrate": str(BITS_PER_SECOND), "bufsize": "1000000"}
        options = {"crf": "18", "preset": "veryfast", "bf": "0", **rate}  # B-frames would shift all times
        self._stream = self._container.add_stream("libx264", rate=30, options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.codec_context.time_base = self._stream.time_base = Fraction(1, TICKS)
        self._stream.codec_context.thread_count = 1  # the same bytes on any machine


def _shrink(rgb: np.ndarray) -> np.ndarray:
    """RGB [H, W, 3] uint8, at most `HALF_PX` wide, with even sides."""
    height, width, _ = rgb.shape
    wide = max(2, min(width, HALF_PX) // 2 * 2)
    high = max(2, round(height * wide / width / 2) * 2)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
    return frame.reformat(wide, high, interpolation="AREA").to_ndarray()
