"""Writes a folder of PNG or TIFF files, with their times in a file beside them."""

import hashlib
import json
from collections.abc import Iterable
from fractions import Fraction
from itertools import takewhile
from pathlib import Path
from typing import Self

import numpy as np
from av import CodecContext, VideoFrame

from vidlatent.errors import UsageError, VidlatentError
from vidlatent.files import naming_disk_errors, sha256_file
from vidlatent.folders import FolderReplacement
from vidlatent.io.journal import Differs, Journal, Making, Piece, is_final
from vidlatent.io.picture.info import Picture
from vidlatent.io.picture.resample import resize, to_square_pixels
from vidlatent.io.read.image_folder import TIMES_FILE

# Image formats by name: their encoder's settings, and the order of bytes of its 16-bit samples.
FORMATS = {"png": ({}, "be"), "tiff": ({"compression_algo": "deflate"}, "le")}


class ImageSink:
    """A VideoSink that writes 000000.png (or .tiff) … and timestamps.json; see `sink.VideoSink`.

    The folder is filled under a partial name, which no other run may fill meanwhile, and renamed when it is
    complete. Samples have 8 bits, or 16 where the source had more than 8.

    `making` says how the frames are made. It is noted in a journal, so that a later run can go on where this
    one is killed. Where an earlier run is to be gone on with, its first `there` frames are there already;
    then an interruption leaves what there is.
    """

    def __init__(
        self,
        folder: Path,
        picture: Picture,
        kind: str,
        square_pixels: bool,
        making: Making | None = None,
    ) -> None:
        self._folder = folder
        self._journal, self._resumes = Journal(folder, making), making is not None and making.resume
        self.there = 0
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
        self._target = FolderReplacement(self._folder, keep=self._resumes)
        try:
            self._take_over(self._journal.read())
        except BaseException:
            self._target.discard()
            raise
        return self

    @property
    def why_not(self) -> str | None:
        """Why nothing of an earlier run is there; None where there was none."""
        return self._journal.why_not

    def write(self, rgb: np.ndarray, pts: int, duration: int) -> None:
        """Add a frame; see `sink.VideoSink`. One that is there already is compared: raises Differs."""
        number = len(self._pts)
        image = encode_image(resize(rgb, (self._picture.width, self._picture.height)), self._kind)
        with naming_disk_errors(self._folder):
            if number >= self.there:
                self._path(number).write_bytes(image)
                self._journal.add(Piece(number + 1, (hashlib.sha256(image).hexdigest(),)))
            elif self._path(number).read_bytes() != image:
                raise Differs
        self.pass_over(pts, duration)

    def pass_over(self, pts: int, duration: int) -> None:
        """Note the time of a frame that is there already."""
        self._pts.append(pts)
        self._durations.append(duration)

    def restart(self) -> None:
        """Drop all frames."""
        self._take_over(())
        self._pts, self._durations = [], []

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            if error is None:
                self._finish()
        except BaseException as e:
            error = e
            raise
        finally:
            if error is not None and self._resumes and not is_final(error):
                self._journal.close()
                self._target.leave()
            else:
                self._journal.remove()
                self._target.discard()

    def _path(self, number: int) -> Path:
        return self._target.partial / f"{number:06d}.{self._kind}"

    def _take_over(self, pieces: Iterable[Piece]) -> None:
        """Keep the first of `pieces` that are there as they were written, and nothing else."""
        with naming_disk_errors(self._folder):
            good = list(takewhile(self._is_there, pieces))
            self.there = len(good)
            kept = {self._path(number) for number in range(self.there)}
            for other in set(self._target.partial.iterdir()) - kept:
                other.unlink()
            self._journal.begin(good)

    def _is_there(self, piece: Piece) -> bool:
        path = self._path(piece.count - 1)
        return path.is_file() and piece.digests == (sha256_file(path),)

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
