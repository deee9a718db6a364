"""Writes a folder of PNG or TIFF files, with their times in a file beside them."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Self

import numpy as np
from av import CodecContext, VideoFrame

from vidlatent.errors import UsageError, VidlatentError
from vidlatent.files import naming_disk_errors
from vidlatent.folders import FolderReplacement
from vidlatent.io.picture.info import Picture
from vidlatent.io.picture.resample import resize, to_square_pixels
from vidlatent.io.read.image_folder import TIMES_FILE

# Image formats by name: their encoder's settings, and the order of bytes of its 16-bit samples.
FORMATS = {"png": ({}, "be"), "tiff": ({"compression_algo": "deflate"}, "le")}


class ImageSink:
    """A VideoSink that writes 000000.png (or .tiff) … and timestamps.json; see `sink.VideoSink`.

    The folder is filled under a partial name, which no other run may fill meanwhile, and renamed when it is
    complete. Samples have 8 bits, or 16 where the source had more than 8.
    """

    def __init__(self, folder: Path, picture: Picture, kind: str, square_pixels: bool) -> None:
        self._folder = folder
        self._picture = to_square_pixels(picture) if square_pixels else picture
        self._kind = kind
        self._pts: list[int] = []
        self._durations: list[int] = []
        self.notices: list[str] = []
        if self._picture.sar != 1:
            self.notices.append(f"images cannot tell pixels of {picture.sar} (--square-pixels scales them)")

    def __enter__(self) -> Self:
        if self._folder.exists() and any(self._folder.iterdir()):
            raise UsageError(
                f"{self._folder}: folder is not empty", "name a new folder, or remove its contents"
            )
        self._target = FolderReplacement(self._folder)
        return self

    def write(self, rgb: np.ndarray, pts: int, duration: int) -> None:
        """Add a frame; see `sink.VideoSink`."""
        rgb = resize(rgb, (self._picture.width, self._picture.height))
        with naming_disk_errors(self._folder):
            image = self._target.partial / f"{len(self._pts):06d}.{self._kind}"
            image.write_bytes(encode_image(rgb, self._kind))
        self._pts.append(pts)
        self._durations.append(duration)

    def __exit__(self, *exc: object) -> None:
        try:
            if exc[0] is None:
                self._finish()
        finally:
            self._target.discard()

    def _finish(self) -> None:
        if not self._pts:
            raise VidlatentError(f"{self._folder}: no frames to write")
        times = {"time_base": str(self._picture.time_base), "pts": self._pts, "durations": self._durations}
        with naming_disk_errors(self._folder):
            (self._target.partial / TIMES_FILE).write_text(json.dumps(times) + "\n")
        self._target.commit()


def encode_image(rgb: np.ndarray, kind: str = "png") -> bytes:
    """RGB [H, W, 3], uint8 or uint16 → the bytes of a file of one of the FORMATS."""
    settings, order = FORMATS[kind]
    shallow = rgb.dtype == np.uint8
    encoder = CodecContext.create(kind, "w")
    encoder.height, encoder.width = rgb.shape[:2]
    encoder.pix_fmt = "rgb24" if shallow else f"rgb48{order}"
    encoder.time_base = Fraction(1, 25)
    encoder.options = dict(settings)
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24" if shallow else "rgb48le")
    packets = encoder.encode(frame.reformat(format=encoder.pix_fmt)) + encoder.encode(None)
    return b"".join(bytes(packet) for packet in packets)
