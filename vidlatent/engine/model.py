"""A model that is ready to run: a network, its facts, and where it computes."""

from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, repeat
from math import prod
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from vidlatent.allocator import suit_pictures
from vidlatent.engine import pixels
from vidlatent.engine.plan import PlanWishes, plan_for, shortened
from vidlatent.engine.runtime import Runtime
from vidlatent.engine.stream import stream
from vidlatent.engine.tiles import Apply
from vidlatent.engine.tilewise import Again, Cuts, TileByTile, Tilewise
from vidlatent.errors import BadInput
from vidlatent.models.base import ModelSpec, Posterior, VideoVAE
from vidlatent.windows import Plan, cut

T = TypeVar("T")


@dataclass(frozen=True)
class Model:
    """Encodes and decodes clips of any length, streaming; made by `load_model`."""

    network: VideoVAE
    runtime: Runtime
    weights_sha256: str = ""

    @property
    def spec(self) -> ModelSpec:
        """The facts of the model."""
        return self.network.spec

    def choose(self, **settings: object) -> "Model":
        """The same model, its weights shared, with other settings of its options; see `models show`."""
        network = copy(self.network)
        network.spec = self.spec.chosen(settings)
        return replace(self, network=network)

    def plan(
        self,
        window: int | None = None,
        latent_window: int | None = None,
        tile: int | None = None,
        overlap: float | None = None,
        name: str | None = None,
        past: int | None = None,
    ) -> Plan:
        """Make a plan of how to cut clips; what each wish means, `PlanWishes` says. None: the model's own."""
        return plan_for(self.spec, PlanWishes(window, latent_window, tile, overlap, name, past))

    def encode(self, video: Tensor, plan: Plan | None = None) -> Posterior:
        """Video [B, 3, T, H, W] in [-1, 1] → posterior over latents [B, C, t, h, w], on the video's device.

        A clip off the model's grid is padded as files are: its last frame is repeated until there
        are 1 + k·time frames, its bottom row and right column until the sides fit. Nothing is lost.
        Models that run in batches take any number of frames, since it is known here (see `TimeRule`).
        """
        check_video(video)
        frames, total = video.unbind(2), video.shape[2]
        if not ((plan or self.spec.plan).encode_time.batches and self.spec.grid.pairs):
            frames, total = self.fitted(frames, plan), None
        parts = [m.to(video.device) for m in self.encode_stream(frames, plan, total)]
        return Posterior.of(torch.cat(parts, dim=2))

    def decode(self, latents: Tensor, plan: Plan | None = None) -> Tensor:
        """Latents [B, C, t, h, w], raw posterior units → video [B, 3, T, H, W], not clamped."""
        check_latents(latents, self.spec.channels)
        parts = [p.to(latents.device) for p in self.decode_stream(latents.unbind(2), plan, latents.shape[2])]
        return torch.cat(parts, dim=2)

    def fitted(self, frames: Iterable, plan: Plan | None = None) -> Iterator:
        """The frames of a clip, the last one repeated until their number fits the grid and the batches."""
        count, frame = 0, None
        for count, frame in enumerate(frames, start=1):  # noqa: B007  the last ones are wanted
            yield frame
        rule, grid = (plan or self.spec.plan).encode_time, self.spec.grid
        for _ in range(rule.missing(count, grid.step) if grid.pairs else grid.missing_frames(count)):
            yield frame

    def encode_clip(
        self,
        frames: Iterable[np.ndarray],
        plan: Plan | None = None,
        known: int | None = None,
        tilewise: Tilewise | None = None,
        start: int = 0,
    ) -> Iterator[Tensor]:
        """As `encode_stream`, for a clip of which no frame may be lost or come back at another time.

        `known` is the number of frames, where it is certain before the first is read. A clip that is known to
        fit the grid goes as it is; of any other the last frame is repeated until it does: see `fitted`.
        """
        if known is not None and self.spec.grid.fits(known):
            return self.encode_stream(frames, plan, known - start, tilewise, start)
        fitted = Again(partial(self.fitted, frames, plan))
        return self.encode_stream(fitted, plan, tilewise=tilewise, start=start)

    def encode_stream(
        self,
        frames: Iterable[np.ndarray] | Iterable[Tensor],
        plan: Plan | None = None,
        total: int | None = None,
        tilewise: Tilewise | None = None,
        start: int = 0,
    ) -> Iterator[Tensor]:
        """Moments [B, 2C, t, h, w] in float32 for each window of a stream of frames.

        Frames are [H, W, 3] or [B, H, W, 3] uint8 or uint16, or tensors [B, 3, H, W] in [-1, 1]; sides
        off the grid are padded. Trailing frames that fill no latent give none: see `fitted`. Models that
        run in batches follow their reference's rule for the remainder if the `total` of frames is given.

        With `tilewise` each tile of the plan goes through the whole clip before the next one, which takes
        less memory and gives the same; `frames` is then iterated once for every tile.

        `start` is the number of the first frame, where a clip is entered in its middle: see `Access`.
        """
        first, passes = again_and_again(frames)
        if first is None:
            return
        sides = first.shape[-2:] if isinstance(first, Tensor) else first.shape[-3:-1]
        suit_pictures(prod(sides))
        plan = shortened(plan or self.spec.plan, self.spec, *sides)
        cuts = (cut(items, plan.encode_time, self.spec.grid.latents, total, start) for items in passes)
        how = (self._join_frames, plan.encode_time, plan.tiles_to_encode)
        yield from through(self.network.encode, cuts, how, tilewise)

    def decode_stream(
        self,
        latents: Iterable[Tensor],
        plan: Plan | None = None,
        total: int | None = None,
        tilewise: Tilewise | None = None,
        start: int = 0,
    ) -> Iterator[Tensor]:
        """Pixels [B, 3, T, H, W] in float32, not clamped, for each window of latents [B, C, h, w].

        Models that run in batches need the `total` of latents to follow their reference's rule. With
        `tilewise` the latents are iterated once for every tile. `start` is the number of the first latent in
        its clip; see `encode_stream` for both.
        """
        first, passes = again_and_again(Again(partial(self._prepared, latents, start)))
        if first is None:
            return
        sides = [side * self.spec.grid.space for side in first.shape[-2:]]
        suit_pictures(prod(sides))
        plan = shortened(plan or self.spec.plan, self.spec, *sides)
        cuts = (cut(items, plan.decode_time, self.spec.grid.frames, total, start) for items in passes)
        how = (self._join_latents, plan.decode_time, plan.tiles_to_decode)
        yield from through(self.network.decode, cuts, how, tilewise)

    def _prepared(self, latents: Iterable[Tensor], start: int) -> Iterator[Tensor]:
        """Latents [B, C, h, w] of a clip from number `start` on, as the network is to have them."""
        prepare = self.spec.prepare
        if prepare is None:
            return iter(latents)
        return (prepare(self.spec, z, n) for n, z in enumerate(latents, start))

    def _join_frames(self, frames: list[np.ndarray] | list[Tensor]) -> Tensor:
        if isinstance(frames[0], Tensor):
            return pixels.pad_to_grid(self._join_latents(frames), self.spec.grid)
        return pixels.to_model(frames, self.spec.grid, self.runtime.device, self.runtime.dtype)

    def _join_latents(self, latents: list[Tensor]) -> Tensor:
        joined = torch.stack(latents, dim=2).to(self.runtime.device, self.runtime.dtype)
        return joined.contiguous(memory_format=torch.channels_last_3d)


def again_and_again(source: Iterable[T]) -> tuple[T | None, Iterator[Iterator[T]]]:
    """The first item of `source` (None: there is none), and its items as often as they are wanted.

    A source that can be iterated only once gives them only once.
    """
    items = iter(source)
    first = next(items, None)
    return first, chain([chain([first], items)], (iter(source) for _ in repeat(None)))


def through(apply: Apply, passes: Iterator[Cuts], how: tuple, tilewise: Tilewise | None) -> Iterator[Tensor]:
    """The windows of a clip through a network: all tiles of each, or with `tilewise` all windows of a tile.

    `how` is what joins the items of a window, the rule in time and that in space.
    """
    if tilewise is None:
        return stream(apply, next(passes), *how)
    return TileByTile(apply, *how, tilewise).through(passes)


def check_video(video: Tensor) -> None:
    """Raise BadInput unless this is a clip [B, 3, T, H, W] of finite floats."""
    if video.dim() != 5 or video.shape[1] != 3 or 0 in video.shape or not video.is_floating_point():
        raise BadInput(
            f"video is {video.dtype} {list(video.shape)}, expected floats [B, 3, T, H, W]",
            "scale pixels to [-1, 1]; one image is T = 1",
        )


def check_latents(latents: Tensor, channels: int) -> None:
    """Raise BadInput unless these are latents [B, C, t, h, w] of finite floats."""
    good = latents.dim() == 5 and latents.is_floating_point() and 0 not in latents.shape
    if not good or latents.shape[1] != channels:
        raise BadInput(
            f"latents are {latents.dtype} {list(latents.shape)}, expected floats [B, {channels}, t, h, w]"
        )
    if not torch.isfinite(latents).all():
        raise BadInput("latents hold NaN or infinity", "they were broken before they came here")
