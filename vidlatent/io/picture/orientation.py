"""Display matrices: how stored pixels must be rotated and mirrored to be shown."""

import math
import struct
from dataclasses import dataclass

import numpy as np

_STEP_DEG = 1.0  # how far from a quarter turn a matrix may be before a notice says so


@dataclass(frozen=True)
class Orientation:
    """A transposition, then mirrorings: together all that a display matrix of quarter turns can ask for."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @classmethod
    def of_matrix(cls, matrix: bytes) -> "Orientation":
        """From a matrix of nine native int32: QuickTime's [x y 1]·M, rows (a, b, u), (c, d, v), (x, y, w)."""
        a, b, _, c, d = struct.unpack("=5i", matrix[:20])
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, d < 0, a < 0)
        return cls(True, b < 0, c < 0)

    @property
    def rotation(self) -> int:
        """Clockwise degrees applied to the stored picture: 0, 90, 180 or 270."""
        if self.transpose:
            return 270 if self.flip_rows else 90
        return 180 if self.flip_rows else 0

    @property
    def mirrored(self) -> bool:
        """Whether the picture is mirrored left to right after the rotation."""
        return (self.flip_rows != self.flip_columns) != self.transpose

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels [H, W, ...] as displayed, contiguous."""
        if self.transpose:
            pixels = pixels.swapaxes(0, 1)
        rows = slice(None, None, -1 if self.flip_rows else 1)
        columns = slice(None, None, -1 if self.flip_columns else 1)
        return np.ascontiguousarray(pixels[rows, columns])

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Displayed (width, height) of a stored picture."""
        return (height, width) if self.transpose else (width, height)


def odd_angle(matrix: bytes) -> float | None:
    """The angle of a display matrix in degrees where it is no multiple of a quarter turn, else None."""
    a, b = struct.unpack("=2i", matrix[:8])
    angle = math.degrees(math.atan2(b, a))
    return None if abs(angle - 90 * round(angle / 90)) <= _STEP_DEG else angle
