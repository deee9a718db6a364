"""The batch of a step: a function of the seed and the step's number alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.camera import load_photos, picture_clip, pyramid, write_text
from training.charts import charts
from training.footage import footage_clip, pack_footage
from vidlatent.engine.pixels import to_frames


@dataclass(frozen=True)
class Data(Dataset):
    """Where clips come from, and how they are cut."""

    bank: list[list[np.ndarray]]  # segments of every video [T, H, W, 3]
    photos: list[list[Tensor]]  # photographs, as pyramids
    charts: list[list[Tensor]]  # drawn pictures, likewise
    seed: int
    batch: int
    frames: int
    crop: int
    photo_share: float  # of clips that are camera moves over photographs
    chart_share: float  # of clips that are camera moves over charts
    still_share: float  # of clips that stand still

    @classmethod
    def of(cls, args) -> "Data":
        """Read what the command line names; decoded footage is kept in its cache."""
        bank = pack_footage(args.data, args.cache, args.segments)
        return cls(
            bank,
            load_photos(args.data),
            [pyramid(chart) for chart in charts(args.seed)],
            args.seed,
            args.batch,
            args.frames,
            args.crop,
            args.photo_share,
            args.chart_share,
            args.still_share,
        )

    def batches(self, start: int, stop: int, workers: int) -> Iterator[Tensor]:
        """The batches of steps `start` to `stop`, made ahead by so many processes; 0: made when asked for."""
        how = {"prefetch_factor": 4, "pin_memory": torch.cuda.is_available()} if workers else {}
        yield from DataLoader(self, batch_size=None, sampler=range(start, stop), num_workers=workers, **how)

    def __getitem__(self, step: int) -> Tensor:
        """The batch of a step, uint8 [B, 3, T, crop, crop], channels last in memory."""
        rng = np.random.default_rng([self.seed, step % 2**32])
        clips = (self._clip(rng)[None] for _ in range(self.batch))
        frames = np.stack([to_frames(clip, self.crop, self.crop) for clip in clips])  # B T crop crop 3
        return torch.from_numpy(frames).movedim(-1, 1)

    def _clip(self, rng: np.random.Generator) -> Tensor:
        draw, source = self._kind(rng.random())
        clip = draw(source, self.frames, self.crop, rng)
        if rng.random() < 0.05:  # a cut
            at = rng.integers(1, self.frames)
            other = footage_clip(self.bank, self.frames, self.crop, rng)
            clip = torch.cat([clip[:, :at], other[:, at:]], dim=1)
        if rng.random() < self.still_share:
            clip = clip[:, :1].expand_as(clip)
        if rng.random() < 0.06:
            clip = write_text(clip, rng)
        return disturb(clip, rng)

    def _kind(self, dice: float) -> tuple[Callable[..., Tensor], list]:
        """What a clip is made of, and how, for a number in [0, 1)."""
        if dice < self.chart_share:
            return picture_clip, self.charts
        if self.photos and dice < self.chart_share + self.photo_share:
            return picture_clip, self.photos
        return footage_clip, self.bank


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
