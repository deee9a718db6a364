"""A model that is ready to run: a network, its facts, and where it computes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice, repeat
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from vidlatent.allocator import suit_pictures
from vidlatent.engine import pixels
from vidlatent.engine.checks import Size, check_latents, check_video, cut_back
from vidlatent.engine.placing import Where, find_place, move_weights
from vidlatent.engine.plan import PlanWishes, plan_for, suited
from vidlatent.engine.runtime import Runtime
from vidlatent.engine.stream import stream
from vidlatent.engine.tiles import Apply
from vidlatent.engine.tilewise import Again, Cuts, TileByTile, Tilewise
from vidlatent.errors import BadWeights, UsageError
from vidlatent.models.base import ModelSpec, Posterior, Verb, VideoVAE
from vidlatent.models.causal import TimeState
from vidlatent.normalising import denormalise, normalise
from vidlatent.windows import Plan, cut

T = TypeVar("T")


@dataclass(frozen=True)
class Model:
    """Encodes and decodes clips of any length, streaming; made by `load_model`.

    `chosen` is where a network without weights computes; others compute where their weights are. `load` loads
    the same model again, on a device, in a dtype, with settings; None: it was made by hand. `only` is the one
    verb that it was loaded for; None: both. `file` holds its weights, where they are of a file.
    """

    network: VideoVAE
    chosen: Runtime
    weights_sha256: str = ""
    load: Callable[..., "Model"] | None = None
    only: Verb | None = None
    file: Path | None = None

    @property
    def spec(self) -> ModelSpec:
        """The facts of the model."""
        return self.network.spec

    @property
    def config(self) -> Mapping[str, object]:
        """The config of the network, as its config.json says it."""
        return self.spec.config

    @property
    def runtime(self) -> Runtime:
        """Device and dtype in which the network computes: those of its weights."""
        weight = next(self.network.parameters(), None)
        return self.chosen if weight is None else Runtime(weight.device, weight.dtype)

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.runtime.device

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return self.runtime.dtype

    def to(self, *where: Where, device: Where | None = None, dtype: Where | None = None) -> "Model":
        """Move the weights to a device, into a dtype, or both, and return the model: `model.to("cuda")`.

        As with modules of torch they are moved in place, so models that share them go along (see `choose`).
        """
        place = find_place(self.runtime, where, device, dtype)
        move_weights(self.network, place)
        return replace(self, chosen=place)

    def __repr__(self) -> str:
        grid, run = self.spec.grid, self.runtime
        sha256 = f", weights {self.weights_sha256[:12]}" if self.weights_sha256 else ""
        return (
            f"Model({self.spec.name}: {grid.time}x{grid.space}x{grid.space}, {self.spec.channels} channels, "
            f"{run.dtype_name} on {run.device}{sha256})"
        )

    def __reduce__(self) -> tuple:
        """For pickles: how to load the model again. They hold no weights."""
        if self.load is None:
            raise UsageError(
                f"{self!r}: made by hand, so another process cannot load it", "use vidlatent.load_model"
            )
        return load_again, (self.load, self.runtime, dict(self.spec.settings), self.weights_sha256)

    def __deepcopy__(self, memo: dict) -> "Model":
        return replace(self, network=deepcopy(self.network, memo))

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
        frames, total, size = video.unbind(2), video.shape[2], tuple(video.shape[2:])
        if not ((plan or self.spec.plan).encode_time.batches and self.spec.grid.pairs):
            frames, total = self.fitted(frames, plan), None
        parts = [m.to(video.device) for m in self.encode_stream(frames, plan, total)]
        return replace(Posterior.of(torch.cat(parts, dim=2)), size=size)

    def decode(
        self, latents: Tensor, plan: Plan | None = None, like: Posterior | Tensor | Size | None = None
    ) -> Tensor:
        """Latents [B, C, t, h, w], raw posterior units → video [B, 3, T, H, W], not clamped.

        What encoding had added to a clip off the grid is cut off again with `like`: the posterior of the
        clip, the clip itself, or its (T, H, W).
        """
        check_latents(latents, self.spec.channels)
        parts = [p.to(latents.device) for p in self.decode_stream(latents.unbind(2), plan, latents.shape[2])]
        video = torch.cat(parts, dim=2)
        return video if like is None else cut_back(video, like, self.spec.grid)

    def normalise(self, latents: Tensor) -> Tensor:
        """Raw latents [B, C, t, h, w] → as a diffusion model is fed them: (z - shift) · scale."""
        check_latents(latents, self.spec.channels)
        return normalise(latents, self.spec.scale, self.spec.shift, axis=-4).to(latents.dtype)

    def denormalise(self, latents: Tensor) -> Tensor:
        """Latents [B, C, t, h, w] of a diffusion model → raw ones, which `decode` takes."""
        check_latents(latents, self.spec.channels)
        return denormalise(latents, self.spec.scale, self.spec.shift, axis=-4).to(latents.dtype)

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
        plan = suited(plan or self.spec.plan, self.spec, *sides, self.runtime.on_gpu)
        encode = self._verb("encode")
        cuts = (cut(items, plan.encode_time, self.spec.grid.latents, total, start) for items in passes)
        how = (self._join_frames, plan.encode_time, plan.tiles_to_encode)
        yield from through(encode, cuts, how, tilewise)

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
        plan = suited(plan or self.spec.plan, self.spec, *sides, self.runtime.on_gpu)
        decode = self._verb("decode")
        cuts = (cut(items, plan.decode_time, self.spec.grid.frames, total, start) for items in passes)
        how = (self._join_latents, plan.decode_time, plan.tiles_to_decode)
        yield from through(decode, cuts, how, tilewise)

    def _verb(self, verb: Verb) -> Apply:
        """A verb of the network; raises UsageError where its weights were left out."""
        if self.only not in (None, verb):
            raise UsageError(
                f"{self!r}: loaded to {self.only} alone, and asked to {verb}",
                f"load it without only={self.only!r}",
            )
        return getattr(self.network, verb)

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
    apply = partial(in_own_dtype, apply)
    if tilewise is None:
        return stream(apply, next(passes), *how)
    return TileByTile(apply, *how, tilewise).through(passes)


def in_own_dtype(apply: Apply, x: Tensor, state: TimeState) -> Iterator[Tensor]:
    """What `apply` gives, computed in the dtype of the network, inside of `torch.autocast` too.

    The dtype was chosen when the model was loaded. Autocast would give other numbers, and some of what
    networks do in place it cannot do at all.
    """
    if torch.is_autocast_enabled(x.device.type):
        return without_autocast(apply, x, state)
    return apply(x, state)


def without_autocast(apply: Apply, x: Tensor, state: TimeState) -> Iterator[Tensor]:
    """The same pieces; autocast is off while one is computed, and on again while its taker has it."""
    kind, pieces = x.device.type, None
    while True:
        with torch.autocast(kind, enabled=False):
            pieces = iter(apply(x, state)) if pieces is None else pieces
            held = list(islice(pieces, 1))
        if not held:
            return
        yield held.pop()  # so that it does not stand here while the next one is computed


def load_again(
    load: Callable[..., Model], where: Runtime, settings: Mapping[str, object], weights_sha256: str
) -> Model:
    """The model of a pickle, loaded in this process; raises BadWeights where the weights are others now."""
    model = load(device=where.device, dtype=where.dtype, settings=settings)
    if model.weights_sha256 != weights_sha256:
        raise BadWeights(
            f"{model.spec.name}: expected weights {weights_sha256[:12]}…, got {model.weights_sha256[:12]}…",
            "load the model in this process, or bring the weights that the other process has",
        )
    return model
