"""Writes YUV4MPEG on stdout: raw frames for another program."""

import sys
from fractions import Fraction
from typing import Self

import numpy as np

from vidlatent.errors import UsageError, parameter
from vidlatent.io.picture.colour import YuvWriter, output_colour
from vidlatent.io.picture.info import Picture
from vidlatent.io.picture.resample import resize, to_square_pixels
from vidlatent.io.write.encoders import SinkOptions

_CHROMA = {"yuv420p": "420mpeg2", "yuv422p": "422", "yuv444p": "444", "yuv420p10le": "420p10",
           "yuv422p10le": "422p10", "yuv444p10le": "444p10"}  # fmt: skip


class Y4mSink:
    """A VideoSink that writes YUV4MPEG, which has one frame rate and no times; see `sink.VideoSink`."""

    def __init__(self, picture: Picture, options: SinkOptions) -> None:
        self._picture = to_square_pixels(picture) if options.square_pixels else picture
        deep = "10le" if picture.bit_depth > 8 else ""
        self._pix_fmt = options.pix_fmt or f"yuv444p{deep}"
        if self._pix_fmt not in _CHROMA:
            raise UsageError(
                f"YUV4MPEG has no pixel format {self._pix_fmt}",
                f"it takes {parameter('pix_fmt')} {', '.join(_CHROMA)}",
            )
        self._to_yuv = YuvWriter(self._pix_fmt, output_colour(picture.colour))
        self._file = sys.stdout.buffer
        self.notices = ["YUV4MPEG carries no timestamps: frames follow each other at the average rate"]

    def __enter__(self) -> Self:
        p = self._picture
        rate = (p.rate or Fraction(25)).limit_denominator(1001)
        fields = f"W{p.width} H{p.height} F{rate.numerator}:{rate.denominator} Ip"
        aspect = f"A{p.sar.numerator}:{p.sar.denominator} C{_CHROMA[self._pix_fmt]} XCOLORRANGE=LIMITED"
        self._file.write(f"YUV4MPEG2 {fields} {aspect}\n".encode())
        return self

    def write(self, rgb: np.ndarray, pts: int, duration: int) -> None:
        """Add a frame; see `sink.VideoSink`."""
        rgb = resize(rgb, (self._picture.width, self._picture.height))
        frame = self._to_yuv(np.ascontiguousarray(rgb))
        self._file.write(b"FRAME\n")
        for plane in frame.planes:
            rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
            sample_bytes = 2 if "10" in self._pix_fmt else 1
            self._file.write(np.ascontiguousarray(rows[:, : plane.width * sample_bytes]))

    def __exit__(self, *exc: object) -> None:
        self._file.flush()
