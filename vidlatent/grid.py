"""The model's grid: how many latents a clip becomes, and what must be added to make a clip fit."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """Compression of a causal video VAE: `time` frames and `space`×`space` pixels per latent.

    The first frame has a latent of its own, so a clip that fits has 1 + time·k frames; a per-frame
    model is time=1. Sides that fit are multiples of `space`.

    With `pairs` latents come two at a time, as in CogVideoX. Then only in a clip of an odd number of latents
    has the first frame one of its own; in others every latent stands for `time` frames. So clips that fit
    have 1 + 2·time·k frames, or 2·time·k.
    """

    time: int
    space: int
    pairs: bool = False

    @property
    def step(self) -> int:
        """How many frames more the next longer clip of the same kind has."""
        return 2 * self.time if self.pairs else self.time

    def latents(self, frames: int) -> int:
        """Latent frames that come of `frames` frames; a tail that fills no latent gives none."""
        return 1 + (frames - 1) // self.time if frames > 0 else 0

    def frames(self, latents: int) -> int:
        """Frames that `latents` latent frames decode to."""
        if self.pairs and latents % 2 == 0:
            return latents * self.time
        return 1 + (latents - 1) * self.time if latents > 0 else 0

    def fits(self, frames: int) -> bool:
        """Whether a clip of so many frames comes back as it is: none lost, none added."""
        return self.frames(self.latents(frames)) == frames

    def missing_frames(self, frames: int) -> int:
        """How often the last frame must be repeated so that the first has a latent and none is lost."""
        return -(frames - 1) % self.step if frames > 0 else 0

    def missing_pixels(self, side: int) -> int:
        """Rows or columns to add to a side of `side` pixels so that it fits."""
        return -side % self.space
