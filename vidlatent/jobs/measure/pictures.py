"""The pictures of a clip that a report shows: its worst frames, and one row of pixels through time."""

import heapq
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import numpy as np

from vidlatent.engine.pixels import FULL_SCALE
from vidlatent.errors import BadInput
from vidlatent.files import replace_on_close

WORST = 3
AMPLIFY = 8  # times the difference, around mid-grey
STRIP_FRAMES = 512  # a longer clip's strip shows every 2nd, 4th … frame


@dataclass(frozen=True, order=True)
class WorstFrame:
    """A pair of frames [H, W, 3] uint8, and when they are shown; pairs are ordered by their error."""

    error: float  # mean squared, in levels
    index: int
    reference: np.ndarray = field(compare=False, repr=False)
    distorted: np.ndarray = field(compare=False, repr=False)
    time_s: float | None = field(default=None, compare=False)

    @property
    def difference(self) -> np.ndarray:
        """The difference of the two, amplified, around mid-grey: [H, W, 3] uint8."""
        gap = self.distorted.astype(np.int16) - self.reference
        return np.clip(128 + AMPLIFY * gap, 0, 255).astype(np.uint8)


class KeptPictures:
    """Keeps the worst frames of a clip, and the middle row of every frame, in bounded memory.

    `film` is for a report to play: both sides of the first seconds as MP4, see `Film`; it may be empty.
    """

    def __init__(self) -> None:
        self.film = b""
        self._worst: list[WorstFrame] = []
        self._rows: list[tuple[np.ndarray, np.ndarray]] = []
        self._step = 1
        self._frames = 0

    def update(self, reference: np.ndarray, distorted: np.ndarray, time_s: float | None = None) -> None:
        """Look at one pair of frames, each [H, W, 3], that is shown at `time_s` seconds."""
        r, d = to_eight_bits(reference), to_eight_bits(distorted)
        error = float(np.square(d.astype(np.float32) - r).mean())
        entry = WorstFrame(error, self._frames, r, d, time_s)
        heapq.heappush(self._worst, entry)
        if len(self._worst) > WORST:
            heapq.heappop(self._worst)
        if self._frames % self._step == 0:
            self._keep_row(r, d)
        self._frames += 1

    def worst(self) -> list[WorstFrame]:
        """The worst frames, worst first."""
        return sorted(self._worst, reverse=True)

    @property
    def error(self) -> float:
        """Mean squared error of the worst frame, in levels."""
        return max((frame.error for frame in self._worst), default=0.0)

    def strip(self) -> tuple[np.ndarray, np.ndarray]:
        """The middle rows of reference and distorted frames through time, each [W, frames, 3] uint8."""
        sides = zip(*self._rows, strict=True)
        reference, distorted = (np.stack(side, axis=1) for side in sides)
        return reference, distorted

    def save(self, path: Path) -> None:
        """Write all that is kept, pixel for pixel, into a file of NumPy arrays."""
        worst, (rows, rebuilt) = self.worst(), self.strip()
        path.parent.mkdir(exist_ok=True)
        with replace_on_close(path) as partial, partial.open("wb") as file:
            np.savez_compressed(
                file,
                error=[frame.error for frame in worst],
                index=[frame.index for frame in worst],
                reference=np.stack([frame.reference for frame in worst]),
                distorted=np.stack([frame.distorted for frame in worst]),
                strip=np.stack([rows, rebuilt]),
                time_s=[math.nan if frame.time_s is None else frame.time_s for frame in worst],
                film=np.frombuffer(self.film, np.uint8),
            )

    @classmethod
    def load(cls, path: Path) -> Self:
        """The pictures that `save` wrote. They can be shown; no further pairs can be added."""
        pictures = cls()
        try:
            with np.load(path, allow_pickle=False) as kept:
                times = kept["time_s"] if "time_s" in kept else np.full(len(kept["index"]), np.nan)
                frames = (*(kept[name] for name in ("error", "index", "reference", "distorted")), times)
                for error, index, reference, distorted, time_s in zip(*frames, strict=True):
                    known = None if math.isnan(time_s) else float(time_s)
                    frame = WorstFrame(float(error), int(index), reference, distorted, known)
                    pictures._worst.append(frame)
                pictures.film = kept["film"].tobytes() if "film" in kept else b""
                strips = kept["strip"].swapaxes(1, 2)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as e:
            raise BadInput(f"{path}: no pictures of a bench", "remove it") from e
        pictures._rows = list(zip(*strips, strict=True))
        return pictures

    def _keep_row(self, reference: np.ndarray, distorted: np.ndarray) -> None:
        middle = reference.shape[0] // 2
        self._rows.append((reference[middle].copy(), distorted[middle].copy()))
        if len(self._rows) == STRIP_FRAMES:
            self._rows = self._rows[::2]
            self._step *= 2


def to_eight_bits(frame: np.ndarray) -> np.ndarray:
    """A frame [H, W, 3] of any depth as uint8, rounded, to be looked at."""
    if frame.dtype == np.uint8:
        return frame
    scale = FULL_SCALE[frame.dtype] // FULL_SCALE[np.dtype(np.uint8)]
    return ((frame.astype(np.uint32) + scale // 2) // scale).astype(np.uint8)
