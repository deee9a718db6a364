"""The batch of a step: a function of the seed and the step's number alone."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.camera import load_photos, photo_clip, write_text
from training.footage import footage_clip, pack_footage


@dataclass(frozen=True)
class Data:
    """Where clips come from, and how they are cut."""

    bank: list[np.ndarray]  # segments of footage [T, H, W, 3]
    photos: list[list[Tensor]]  # photographs, as pyramids
    seed: int
    batch: int
    frames: int
    crop: int
    photo_share: float  # of clips that are camera moves over photographs

    @classmethod
    def of(cls, args) -> "Data":
        """Read what the command line names; decoded footage is kept in its cache."""
        bank = pack_footage(args.data, args.cache, args.segments)
        return cls(
            bank, load_photos(args.data), args.seed, args.batch, args.frames, args.crop, args.photo_share
        )

    def at(self, step: int) -> Tensor:
        """The batch [B, 3, T, crop, crop] of a step."""
        rng = np.random.default_rng([self.seed, step % 2**32])
        clips = torch.stack([self._clip(rng) for _ in range(self.batch)])
        return clips.contiguous(memory_format=torch.channels_last_3d)

    def _clip(self, rng: np.random.Generator) -> Tensor:
        from_photo = self.photos and rng.random() < self.photo_share
        draw, source = (photo_clip, self.photos) if from_photo else (footage_clip, self.bank)
        clip = draw(source, self.frames, self.crop, rng)
        if rng.random() < 0.05:  # a cut
            at = rng.integers(1, self.frames)
            other = footage_clip(self.bank, self.frames, self.crop, rng)
            clip = torch.cat([clip[:, :at], other[:, at:]], dim=1)
        if rng.random() < 0.06:  # a still
            clip = clip[:, :1].expand_as(clip)
        if rng.random() < 0.06:
            clip = write_text(clip, rng)
        return disturb(clip, rng)


def disturb(clip: Tensor, rng: np.random.Generator) -> Tensor:
    """Flips, fades, exposure and sensor noise, each at times."""
    if rng.random() < 0.5:
        clip = clip.flip(-1)
    if rng.random() < 0.2:
        clip = clip.flip(-2)
    if rng.random() < 0.1:
        clip = clip.transpose(-1, -2)
    if rng.random() < 0.15:
        gain = torch.linspace(*rng.uniform(0.2, 1.1, 2), clip.shape[1])[:, None, None]
        clip = (clip + 1) * gain - 1
    if rng.random() < 0.1:
        noise = rng.standard_normal(clip.shape, dtype=np.float32)
        clip = clip + float(rng.uniform(0.005, 0.03)) * torch.from_numpy(noise)
    return clip.clamp(-1, 1)
