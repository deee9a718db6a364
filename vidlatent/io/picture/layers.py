"""What a video holds beside the pictures that libav gives: transparency, or a second eye, in a layer apart.

WebM keeps transparency beside each packet, AVIF and HEIF keep it as a picture of its own, HEVC as a layer.
Where pictures themselves are transparent, their pixel format says so, and nothing needs to be looked for.
"""

from typing import BinaryIO

from av.video.stream import VideoStream

from vidlatent.io.picture.boxes import read_index

_HEAD_BYTES = 1 << 16  # of a picture in boxes: what it consists of comes first
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1", b"auxv")
_SECOND_LAYER = b"lhvC"  # the configuration of a layer above the first, of HEVC


def keeps_alpha_apart(file: BinaryIO, stream: VideoStream) -> bool:
    """Whether there is transparency that does not come with the pictures of `stream`."""
    return stream.metadata.get("alpha_mode") == "1" or _has_box(file, *_ALPHA)


def has_second_layer(file: BinaryIO) -> bool:
    """Whether there is a second layer of HEVC: transparency, or the other eye of a spatial video."""
    return _has_box(file, _SECOND_LAYER)


def _has_box(file: BinaryIO, *signs: bytes) -> bool:
    """Whether one of these is in the index of a file, if that is an MP4 or a relative of it."""
    head = file.read(_HEAD_BYTES)
    if head[4:8] != b"ftyp":
        return False
    index = read_index(file)
    return any(sign in head or sign in index for sign in signs)
