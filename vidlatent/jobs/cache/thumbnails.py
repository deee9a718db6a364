"""Thumbnails: a few small frames of each clip, kept beside its entry, to look at a cache without a model."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from av import VideoFrame

from vidlatent.durable import make_folder
from vidlatent.files import naming_disk_errors, replace_on_close
from vidlatent.jobs.jpeg import SMALL, encode_jpeg

HEIGHT_PX = 72
WIDEST_PX = 4096  # of all thumbnails of a clip side by side


class FilmStrip:
    """Picks `count` frames at equal distances of those that pass by, without knowing how many there will be.

    Small copies are kept of every n-th frame. When there are too many every other one goes, and n doubles.
    """

    def __init__(self, count: int) -> None:
        self._count, self._step = count, 1
        self._held: list[np.ndarray] = []

    def watch(self, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The frames [H, W, 3] as they are."""
        for number, frame in enumerate(frames):
            if number % self._step == 0:
                self._hold(frame)
            yield frame

    def _hold(self, frame: np.ndarray) -> None:
        self._held.append(shrink(frame))
        if len(self._held) >= 4 * self._count:
            self._held = self._held[::2]
            self._step *= 2

    def pick(self) -> list[np.ndarray]:
        """The thumbnails, first to last: fewer where the clip has fewer frames."""
        count = min(self._count, len(self._held))
        last = len(self._held) - 1
        return [self._held[last * n // max(1, count - 1)] for n in range(count)]

    def save(self, path: Path) -> None:
        """Write the thumbnails side by side as one JPEG."""
        with naming_disk_errors(path):
            for folder in (path.parent.parent, path.parent):
                make_folder(folder)
        jpeg = encode_jpeg(np.concatenate(self.pick(), axis=1), WIDEST_PX, SMALL)
        with replace_on_close(path) as partial:
            partial.write_bytes(jpeg)


def shrink(frame: np.ndarray) -> np.ndarray:
    """RGB [H, W, 3] uint8 or uint16 → uint8, HEIGHT_PX high."""
    rgb = frame if frame.dtype == np.uint8 else (frame >> 8).astype(np.uint8)
    height, width = rgb.shape[:2]
    picture = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
    small = picture.reformat(max(1, round(width * HEIGHT_PX / height)), HEIGHT_PX, interpolation="AREA")
    return small.to_ndarray(format="rgb24")
