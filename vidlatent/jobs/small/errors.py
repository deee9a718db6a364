"""How far decoded frames are off, and what that is in decibels."""

from dataclasses import dataclass

import numpy as np

SAME_DB = 100.0  # PSNR of frames that are identical
SAME = 10 ** (-SAME_DB / 10)  # which stands for their squared error
UNSEEN = 1 / 12 / 255**2  # squared error, of a peak of 1, of rounding to 8 bits alone: 58.9 dB


@dataclass(frozen=True)
class Errors:
    """Of decoded frames [T]: squared error of each, of a peak of 1."""

    each: np.ndarray

    def drop_from(self, base: "Errors") -> float:
        """How much lower PSNR is than with errors `base`, in dB.

        Of the mean of the frames' PSNR, and of the PSNR of their mean error, the one that falls more. In the
        first a frame's error counts as UNSEEN at least: else black frames, which a model restores to 75 dB,
        would decide alone.
        """
        now, before = (np.maximum(each, UNSEEN) for each in (self.each, base.each))
        frames = 10 * np.log10(now / before).mean()
        return float(max(frames, 10 * np.log10(self.each.mean() / base.each.mean())))

    @property
    def psnr(self) -> float:
        """Mean PSNR of the frames."""
        return float(-10 * np.log10(self.each).mean())
