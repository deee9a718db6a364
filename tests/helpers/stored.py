"""Small clips of latents, stored in any form."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from vidlatent.clock import FrameClock
from vidlatent.grid import Grid
from vidlatent.io.coded.chunks import SIXTEEN, Chunks
from vidlatent.io.coded.form import Form
from vidlatent.io.coded.packed import JOINED, Packed, fit
from vidlatent.io.latent.header import LatentHeader, Source
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.windows import Plan, TimeRule

CHUNK = SIXTEEN.length
FRAMES = 2 * CHUNK + 5


def header_of(frames: int, h: int, w: int) -> LatentHeader:
    return LatentHeader(
        *("toy", "", {}, Grid(4, 8), Plan(TimeRule(32, 1), TimeRule(15, 1))),
        source=Source("clip.mp4", 1 + 4 * (frames - 1), w * 8, h * 8),
    )


def clock_of(frames: int) -> FrameClock:
    return FrameClock(Fraction(1, 30), np.arange(1 + 4 * (frames - 1)))


def write(path: Path, latents: torch.Tensor, form: Form, pieces: int = 7) -> Path:
    t, channels, h, w = latents.shape
    with LatentWriter(path, header_of(t, h, w), channels, h, w, form) as writer:
        for piece in latents.split(pieces):
            writer.append(piece)
        writer.close(clock_of(t))
    return path


def some_latents(t: int = FRAMES, seed: int = 0) -> torch.Tensor:
    """Latents [t, 3, 2, 5], one channel of zeros, and one that is constant."""
    latents = torch.randn(t, 3, 2, 5, generator=torch.Generator().manual_seed(seed))
    latents[:, 1], latents[:, 2] = 0, -3.5
    return latents


def cut(latents: torch.Tensor, chunks: Chunks = SIXTEEN) -> list[torch.Tensor]:
    return [latents[start:stop].contiguous() for start, stop in chunks.spans(len(latents))]


def all_of(path: Path) -> torch.Tensor:
    with open_latent(path) as reader:
        return reader.read(0, reader.frames)


def pack(
    latents: torch.Tensor, step: float, price: Mapping[str, object] | None = None, trellis: bool = True
) -> Packed:
    """The form packed, fitted to latents [t, C, h, w], with the same step for all channels."""
    mean = latents.double().mean(dim=(0, 2, 3)).numpy()
    form = fit(latents.shape, cut(latents, JOINED), mean, np.full(len(mean), step), trellis)
    return replace(form, price=price or {})
