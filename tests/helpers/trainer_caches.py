"""Caches of any VAE by its name, made in this process by a network that only pools pixels.

The data sets have what makes names hard: equal stems in two folders, and spans of one file.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor, nn

from helpers.cache_clips import write_clip
from vidlatent.engine.model import Model
from vidlatent.engine.runtime import Runtime
from vidlatent.io.read.source import open_video
from vidlatent.io.sources.disk import DiskSource
from vidlatent.jobs.cache.answers import find_answer
from vidlatent.jobs.cache.entry import encode_entry, make_done_row
from vidlatent.jobs.cache.key import ModelIdentity
from vidlatent.jobs.cache.manifest import Manifest, ManifestRow
from vidlatent.jobs.cache.plan import Planner
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.jobs.cache.scan import Clip
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.reading.survey import Look, look_at
from vidlatent.models import registry
from vidlatent.models.base import ModelSpec
from vidlatent.models.causal import TimeState
from vidlatent.windows import Plan, TimeRule

FPS = 25


def clip(path: Path, caption: str, first: int | None = None, frames: int | None = None) -> Clip:
    """A file as a clip, or `frames` of its frames from number `first` on."""
    start = None if first is None else Fraction(first, FPS)
    return Clip(DiskSource(path), str(path), start=start, frames=frames, facts={"caption": caption})


def write_whole(folder: Path) -> list[Clip]:
    """Three files of 9 and 17 frames, two of one name, of two sizes."""
    return [
        clip(write_clip(folder / "a/clip.avi", 1, frames=9, size=(64, 32)), "a red room"),
        clip(write_clip(folder / "b/clip.avi", 2, frames=17, size=(64, 32)), "a blue room"),
        clip(write_clip(folder / "b/c.d.avi", 3, frames=9, size=(32, 64)), "a tall door\nseen from outside"),
    ]


def write_spans(folder: Path) -> list[Clip]:
    """Four spans of a file: two that have one caption, and two with captions of their own."""
    long = write_clip(folder / "long_take.avi", 4, frames=45, size=(64, 32))
    spans = ((0, "rain"), (9, "rain"), (18, "snow"), (27, "sun"))
    return [clip(long, caption, first, 9) for first, caption in spans]


class PoolingVAE(nn.Module):
    """Latents of the shape that a spec promises: each is a mix of the mean colour of its pixels."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.mix = torch.randn(spec.channels, 3, generator=torch.Generator().manual_seed(0))

    def encode(self, video: Tensor, state: TimeState) -> Iterator[Tensor]:
        """[B, 3, T, H, W] → [B, 2C, t, h, w]; the logvar of all is that of their mean."""
        time, space = self.spec.grid.time, self.spec.grid.space
        x = state.extend(self, video, kernel=time, stride=time) if time > 1 else video
        t = x.shape[2] // time
        pooled = x[:, :, : t * time].unflatten(2, (t, time)).mean(3)
        pooled = pooled.unflatten(4, (-1, space)).unflatten(3, (-1, space)).mean((4, 6))
        mean = torch.einsum("kc,bcthw->bkthw", self.mix, pooled)
        yield torch.cat([mean, -1 - mean.abs()], dim=1)


def pooling_model(name: str) -> Model:
    """A model that passes for the one of that name."""
    plan = Plan(encode_time=TimeRule(16), decode_time=TimeRule(4))
    return Model(PoolingVAE(replace(registry.find(name), plan=plan)), Runtime.choose("cpu", "fp32"))


def make_cache(root: Path, model: Model, clips: Iterable[Clip], **recipe: object) -> Path:
    """A cache of these clips at `root`, which may be there already; nothing runs in another process."""
    planner = Planner(Recipe(model.spec.plan, **recipe), ModelIdentity.of(model))
    store = Store.create(root)
    manifest = Manifest(store)
    timed = planner.recipe.chunk_s is not None
    found = ((clip, look_at(Look(clip.source, timed=timed), lambda: None)) for clip in clips)
    for task in planner.plan(found):
        known = find_answer(manifest, task)
        if known is not None:
            manifest.add(task.copy_row(known))
            continue
        with open_video(task.clip.source, task.read) as video:
            encoded = encode_entry(video, task, store, model)
        encoded.close()
        manifest.add(make_done_row(task, encoded.made))
    manifest.close()
    return root


def read_cache(root: Path) -> list[tuple[ManifestRow, Tensor]]:
    """Every clip of a cache: its row, and its latents [C, t, h, w], raw."""
    manifest = Manifest(Store.open(root))
    found = []
    for row in manifest.present_rows():
        with manifest.place(row).open() as latents:
            found.append((row, latents.read(0, latents.frames).transpose(0, 1)))
    return found


def normalise(latents: Tensor, model: Model) -> Tensor:
    """[C, t, h, w], raw → as a diffusion model is fed them."""
    scale, shift = (torch.tensor(values).view(-1, 1, 1, 1) for values in (model.spec.scale, model.spec.shift))
    return ((latents.float() - shift) * scale).to(latents.dtype)
