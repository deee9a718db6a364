"""The model's grid: how many latents a clip becomes, and what must be added to make a clip fit."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """Compression of a causal video VAE: `time` frames and `space`×`space` pixels per latent.

    The first frame has a latent of its own, so a clip that fits has 1 + time·k frames; a per-frame
    model is time=1. Sides that fit are multiples of `space`.
    """

    time: int
    space: int

    def latents(self, frames: int) -> int:
        """Latent frames that come of `frames` frames; a tail that fills no latent gives none."""
        return 1 + (frames - 1) // self.time if frames > 0 else 0

    def frames(self, latents: int) -> int:
        """Frames that `latents` latent frames decode to."""
        return 1 + (latents - 1) * self.time if latents > 0 else 0

    def missing_frames(self, frames: int) -> int:
        """How often the last frame must be repeated so that no frame of the clip is lost."""
        return -(frames - 1) % self.time if frames > 0 else 0

    def missing_pixels(self, side: int) -> int:
        """Rows or columns to add to a side of `side` pixels so that it fits."""
        return -side % self.space
