"""Data that decoders attach to frames beside the picture: rotation, mastering display, light levels."""

from av import VideoFrame
from av.sidedata.sidedata import Type

from vidlatent.io.picture.passes import build_graph

_KINDS = 40  # more than libav has


def read_side_data(frame: VideoFrame, kind: Type) -> bytes | None:
    """The bytes of `kind` that `frame` carries; None where it carries none.

    Where a frame has side data of a kind that PyAV does not know (EXIF of a TIFF, the view of a spatial
    video), PyAV gives none of it, so a filter removes the unknown kinds first.
    """
    try:
        found = frame.side_data.get(kind)
    except ValueError:
        known = {t.value for t in Type}
        unknown = [("sidedata", f"mode=delete:type={n}") for n in range(_KINDS) if n not in known]
        graph = build_graph((frame.width, frame.height, frame.format.name), unknown)
        graph.vpush(frame)
        found = graph.vpull().side_data.get(kind)
    return bytes(found) if found else None
