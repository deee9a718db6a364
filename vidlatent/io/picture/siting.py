"""Where chroma samples sit between the luma samples of subsampled video.

libav frames have a field for it, which libswscale obeys. Where the field is not set, libswscale takes chroma
to be in the middle, while by the standards of every video codec in use, and in players, it is on the left, on
the even luma columns. The difference is a quarter of a chroma sample: dozens of levels on a sharp coloured
edge. PyAV can neither read nor set the field. So a filter that changes nothing else sets it, and whether it
was set is found out by converting a small picture with libswscale.
"""

import numpy as np
from av import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from vidlatent.io.picture.passes import FilterPass

# Codecs whose chroma is in the middle where the field is not set.
_CENTRED = {"mjpeg", "mpeg1video", "webp", "rawvideo", "wrapped_avframe", "jpeg2000", "av1_still"}


def left_siting() -> FilterPass:
    """A filter that marks frames as having their chroma on the left; it copies no pixels."""
    return FilterPass("setparams", "chroma_location=left")


def needs_left_siting(frame: VideoFrame, codec: str) -> bool:
    """Whether a frame's chroma is on the left although libswscale would take it to be in the middle.

    A stream of a modern codec that says "centre" cannot be distinguished from one that says nothing.
    """
    subsampled = len(frame.planes) >= 2 and frame.planes[1].width < frame.width and not frame.format.is_rgb
    if not subsampled or codec in _CENTRED:
        return False
    # It has the frame's own fields. One thread, and none that the frame would own: frames whose side data was
    # read wait for the garbage collector, and in a process that was forked off threads do not end.
    probe = VideoReformatter().reformat(frame, width=16, height=8, format="yuv420p", threads=1)
    for plane, values in zip(probe.planes, (126, 128, 64 + 8 * np.arange(8)), strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        rows[:, : plane.width] = values
        plane.update(rows.tobytes())
    as_is, left = (_red_plane(picture) for picture in (probe, left_siting()(probe)))
    return not np.array_equal(as_is, left)


def _red_plane(frame: VideoFrame) -> np.ndarray:
    flags = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    return (
        VideoReformatter()
        .reformat(frame, format="rgb24", interpolation=flags, threads=1)
        .to_ndarray()[..., 0]
    )
