"""Where chroma samples sit between the luma samples of subsampled video.

libav frames carry it and libswscale obeys, but takes an untold place for the middle, while by the standards
of every video codec in use (and in players) untold means left, on the even luma columns: a quarter of a
chroma sample, dozens of levels on a hard coloured edge. PyAV neither shows nor sets the field, so a
pass-through filter sets it, and libswscale itself is asked whether it is set.
"""

import numpy as np
from av import VideoFrame
from av.video.reformatter import Interpolation

from vidlatent.io.picture.passes import Pass

# Formats that mean the middle by leaving it untold.
_CENTRED = {"mjpeg", "mpeg1video", "webp", "rawvideo", "wrapped_avframe", "jpeg2000", "av1_still"}


def left_siting() -> Pass:
    """Marks frames as having their chroma on the left. Nothing is copied."""
    return Pass("setparams", "chroma_location=left")


def is_untold(frame: VideoFrame, codec: str) -> bool:
    """Whether the frame's chroma should be on the left but libswscale would take it for centred.

    (A stream of a modern codec that says "centre" cannot be told from one that says nothing.)
    """
    subsampled = len(frame.planes) >= 2 and frame.planes[1].width < frame.width and not frame.format.is_rgb
    if not subsampled or codec in _CENTRED:
        return False
    probe = frame.reformat(width=16, height=8, format="yuv420p")  # carries the frame's own properties
    for plane, values in zip(probe.planes, (126, 128, 64 + 8 * np.arange(8)), strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        rows[:, : plane.width] = values
        plane.update(rows.tobytes())
    as_is, left = (_red(picture) for picture in (probe, left_siting()(probe)))
    return not np.array_equal(as_is, left)


def _red(frame: VideoFrame) -> np.ndarray:
    flags = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    return frame.reformat(format="rgb24", interpolation=flags).to_ndarray()[..., 0]
