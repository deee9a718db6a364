"""Small pictures for reports, as JPEG."""

from fractions import Fraction

import numpy as np
from av import CodecContext, VideoFrame

WIDEST = 720  # pixels of a picture in a report; wider ones are scaled down
FINE, SMALL = 2, 6  # quantisers of the encoder: to look at closely, and to recognise


def encode_jpeg(rgb: np.ndarray, widest: int = WIDEST, quantiser: int = FINE) -> bytes:
    """RGB [H, W, 3] uint8 as a JPEG (4:4:4), at most `widest` pixels wide."""
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
    width = min(frame.width, widest)
    encoder = CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height = width, max(1, frame.height * width // frame.width)
    encoder.pix_fmt, encoder.time_base = "yuvj444p", Fraction(1, 25)
    encoder.options = {"qmin": str(quantiser), "qmax": str(quantiser)}
    scaled = frame.reformat(encoder.width, encoder.height, "yuvj444p")
    return b"".join(bytes(packet) for packet in (*encoder.encode(scaled), *encoder.encode(None)))
