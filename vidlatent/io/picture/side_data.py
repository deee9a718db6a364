"""What decoders attach to frames beside the picture."""

from av import VideoFrame
from av.sidedata.sidedata import Type

from vidlatent.io.picture.passes import chain

_KINDS = 40  # more than libav has


def side_data(frame: VideoFrame, kind: Type) -> bytes | None:
    """The bytes of `kind` that `frame` carries; None where it carries none.

    PyAV gives none at all of a frame that has some of a kind it does not know (EXIF of a TIFF, the view of a
    spatial video), so those are taken off first.
    """
    try:
        found = frame.side_data.get(kind)
    except ValueError:
        known = {t.value for t in Type}
        unknown = [("sidedata", f"mode=delete:type={n}") for n in range(_KINDS) if n not in known]
        graph = chain((frame.width, frame.height, frame.format.name), unknown)
        graph.vpush(frame)
        found = graph.vpull().side_data.get(kind)
    return bytes(found) if found else None
