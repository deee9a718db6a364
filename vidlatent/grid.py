"""The model's grid: how many latents a clip becomes, and what must be added to make a clip fit."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """Compression of a video VAE: `time` frames and `space`×`space` pixels per latent.

    With most models the first frame has a latent of its own, so a clip that fits has 1 + time·k frames; a
    per-frame model is time=1. Sides that fit are multiples of `space`.

    With `pairs` latents come two at a time, as in CogVideoX. Then only in a clip of an odd number of latents
    has the first frame one of its own; in others every latent stands for `time` frames. So clips that fit
    have 1 + 2·time·k frames, or 2·time·k.

    Some models work by rules of their own: the first latent stands for `head` frames, after `run` latents the
    next one is as the first again (0: never), and clips that fit have `least` + stride·k frames (stride 0:
    those that follow from all this).
    """

    time: int
    space: int
    pairs: bool = False
    head: int = 1
    run: int = 0
    least: int = 1
    stride: int = 0

    @property
    def step(self) -> int:
        """How many frames more the next longer clip of the same kind has."""
        return self.stride or (2 * self.time if self.pairs else self.time)

    def latents(self, frames: int) -> int:
        """Latent frames that come of `frames` frames; a tail that fills no latent gives none."""
        runs, rest = divmod(frames, self._of_run(self.run)) if self.run else (0, frames)
        return runs * self.run + (1 + (rest - self.head) // self.time if rest >= self.head else 0)

    def frames(self, latents: int) -> int:
        """Frames that `latents` latent frames decode to."""
        if self.pairs and latents % 2 == 0:
            return latents * self.time
        runs, rest = divmod(latents, self.run) if self.run else (0, latents)
        return runs * self._of_run(self.run) + self._of_run(rest)

    def _of_run(self, latents: int) -> int:
        """Frames of so many latents, of which the first is as that of a clip."""
        return self.head + (latents - 1) * self.time if latents > 0 else 0

    def fits(self, frames: int) -> bool:
        """Whether a clip of so many frames comes back as it is: none lost, none added."""
        legal = not self.stride or not self.missing_frames(frames)
        return legal and self.frames(self.latents(frames)) == frames

    def missing_frames(self, frames: int) -> int:
        """How often the last frame must be repeated so that the first has a latent and none is lost."""
        if frames <= 0:
            return 0
        return self.least - frames if frames < self.least else -(frames - self.least) % self.step

    def missing_pixels(self, side: int) -> int:
        """Rows or columns to add to a side of `side` pixels so that it fits."""
        return -side % self.space
