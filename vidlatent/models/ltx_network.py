"""The video VAE of LTX-Video and LTX-2: 8×32×32 pixels to a latent, 128 channels, streaming-exact both ways.

Its norms look at the channels of one position alone. The encoder is causal. The decoder is not: each of its
convolutions sees one frame ahead, so it streams by delay. Every layer gives a frame once the next one is
known, skip paths wait for the slower path beside them, and when a clip ends its layers are emptied one after
the other (see `cascade`). The first frames come out when some 15 to 32 latents have gone in, and all equal
the whole clip.

Some releases tell the decoder how noisy its latents are (a timestep), and some of those add noise inside it.
As in diffusers 0.42 and the authors' own LTX-Video and LTX-2.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidlatent.errors import BadInput
from vidlatent.models.base import ModelSpec
from vidlatent.models.causal import TimeState
from vidlatent.models.convolution import Around, CausalConv3d
from vidlatent.models.ltx_config import Block, LtxConfig
from vidlatent.models.norms import PixelNorm
from vidlatent.models.streaming import (
    ChannelNorm,
    Convolution,
    Delayed,
    DelayedConv3d,
    cascade,
    convolve,
    into,
    last_of,
    normalise_and_convolve,
    run,
    write_and_convolve,
)

PIXELS = 3
FREQUENCIES = 128  # of the timestep, as cosines and as sines
SLOWEST = 10_000  # the longest period, in radians


@dataclass(frozen=True)
class Told:
    """What one residual block of the decoder is told: where to scale and shift, and the seed of its noise."""

    table: Tensor | None = None  # [4, C]: shift and scale before its first convolution, and its second
    seed: int | None = None  # None: no noise

    def before(self, convolution: int) -> Tensor | None:
        """Shift and scale [2, C] before the first convolution or the second."""
        return None if self.table is None else self.table[2 * convolution - 2 : 2 * convolution]


class ResBlock(nn.Module):
    """Norm, SiLU and convolution, twice, added to the input, which waits where convolutions look ahead."""

    def __init__(self, conv: type[CausalConv3d], block: Block, around: Around, label: str) -> None:
        super().__init__()
        inputs, outputs, self.label = block.inputs, block.outputs, label
        self.norm = PixelNorm()
        self.conv1, self.conv2 = conv(inputs, outputs, around=around), conv(outputs, outputs, around=around)
        self.norm3 = ChannelNorm(inputs) if inputs != outputs else None
        self.conv_shortcut = CausalConv3d(inputs, outputs, 1, 1, 0) if inputs != outputs else None
        self.scale_shift_table = nn.Parameter(torch.zeros(4, outputs)) if block.timestep else None
        self.per_channel_scale1, self.per_channel_scale2 = (
            nn.Parameter(torch.zeros(outputs, 1, 1)) if block.noise else None for _ in range(2)
        )

    def forward(self, x: Tensor, state: TimeState, told: Told = Told()) -> Tensor:
        """[B, C, T, H, W] → [B, C', T', H, W], the frames that are known by now."""
        h = write_and_convolve(lambda place: self._norm(x, place, told.before(1)), self.conv1, x, state)
        return self._join(x, self._second(h, state, told), state)

    def rest(self, state: TimeState, told: Told = Told()) -> Iterator[Tensor]:
        """The frames that the two convolutions hold back when the clip has ended."""
        yield from last_of(self.conv1, state, lambda h: self._join(None, self._second(h, state, told), state))
        yield from last_of(
            self.conv2,
            state,
            lambda h: self._join(None, self._noise(h, self.per_channel_scale2, 2, state, told), state),
        )

    def told(self, embedding: Tensor | None, seed: int | None) -> Told:
        """What this block makes of a stage's embedding [4·C] of the timestep."""
        return Told(None if embedding is None else self.scale_shift_table + embedding.view(4, -1), seed)

    def _norm(self, x: Tensor, place: Tensor, told: Tensor | None) -> None:
        self.norm.silu_into(x, place, told)

    def _second(self, h: Tensor, state: TimeState, told: Told) -> Tensor:
        h = self._noise(h, self.per_channel_scale1, 1, state, told)
        h = write_and_convolve(lambda place: self._norm(h, place, told.before(2)), self.conv2, h, state)
        return self._noise(h, self.per_channel_scale2, 2, state, told)

    def _noise(
        self, h: Tensor, scale: Tensor | None, convolution: int, state: TimeState, told: Told
    ) -> Tensor:
        """One plane of noise, the same for all frames of a clip, is added to what a convolution gave."""
        if told.seed is None or scale is None or not h.shape[2]:
            return h
        layer, label = (
            (self.conv1, self.conv2)[convolution - 1],
            f"{self.label}.per_channel_scale{convolution}",
        )
        plane = state.once(layer, lambda: noise_plane(told.seed, label, *h.shape[3:]).to(h))
        return h.add_((plane * scale)[:, None])  # [C, 1, H, W]

    def _join(self, x: Tensor | None, h: Tensor, state: TimeState) -> Tensor:
        """Add what waited for `h`; `x`, if any, are the frames that have just come."""
        start = 0
        for part in state.wait(self, x, h.shape[2]):
            stop = start + part.shape[2]
            h[:, :, start:stop] += part if self.norm3 is None else self.conv_shortcut(self.norm3(part))
            start = stop
        return h


class Stage(nn.Module):
    """Residual blocks of one width; in some releases told of the timestep, by an embedding of their own."""

    def __init__(self, conv: type[CausalConv3d], block: Block, around: Around, label: str) -> None:
        super().__init__()
        labels = (f"{label}.res_blocks.{n}" for n in range(block.count))
        self.res_blocks = nn.ModuleList([ResBlock(conv, block, around, each) for each in labels])
        self.time_embedder = TimeEmbedder(4 * block.outputs) if block.timestep else None

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → the same."""
        return run(self.res_blocks, x, state)

    def layers(self, waves: Tensor, seed: int | None, state: TimeState) -> Iterator[Delayed]:
        """Its blocks one by one, each with what it is told."""
        embedder, embedding = self.time_embedder, None
        if embedder is not None:
            embedding = state.once(embedder, lambda: embedder(waves))
        for block in self.res_blocks:
            yield Instructed(block, block.told(embedding, seed))


@dataclass(frozen=True)
class Instructed:
    """A residual block with what it is told, as one of the layers of a cascade."""

    block: ResBlock
    told: Told

    def __call__(self, x: Tensor, state: TimeState) -> Tensor:
        """See ResBlock."""
        return self.block(x, state, self.told)

    def rest(self, state: TimeState) -> Iterator[Tensor]:
        """See ResBlock."""
        return self.block.rest(state, self.told)


class TimeEmbedder(nn.Module):
    """A timestep, as waves, through two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(2 * FREQUENCIES, width), nn.Linear(width, width)

    def forward(self, waves: Tensor) -> Tensor:
        """[2·FREQUENCIES] → [width]."""
        return self.linear_2(F.silu(self.linear_1(waves.to(self.linear_1.weight.dtype))))


class Strided(CausalConv3d):
    """A convolution that steps over every second frame, row and column."""

    def __init__(self, block: Block, around: Around) -> None:
        super().__init__(block.inputs, block.outputs, 3, block.stride, 1, around)

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → [B, C, T', H', W'], rounded up."""
        return convolve(self, x, state)


class Fold(nn.Module):
    """Convolve and fold frames, rows and columns into channels; the mean of groups of channels is added.

    Where frames are folded in pairs, the first of the clip is taken twice, and an odd one waits for the next.
    """

    def __init__(self, block: Block, around: Around) -> None:
        super().__init__()
        self.stride, self.outputs = block.stride, block.outputs
        self.conv = CausalConv3d(block.inputs, block.outputs // prod(block.stride), around=around)

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → [B, C', T', H', W']."""
        time = self.stride[0]
        if time > 1 and x.shape[2]:
            x = state.extend(self, x, time, time)
            x = x[:, :, : x.shape[2] // time * time]
        folded = fold(into(self.conv)(x, state), self.stride)
        means = fold(x, self.stride).unflatten(1, (self.outputs, -1)).mean(2)
        return folded.add_(means)


class Unfold(nn.Module):
    """Convolve and unfold channels into frames, rows and columns; some releases add the input unfolded.

    Where frames become pairs, the first of the clip becomes one.
    """

    def __init__(self, conv: type[CausalConv3d], block: Block, around: Around) -> None:
        super().__init__()
        self.stride, self.residual = block.stride, block.residual
        self.conv = conv(block.inputs, block.outputs * prod(block.stride), around=around)

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → [B, C', T', H', W'], the frames that are known by now."""
        h = into(self.conv)(x, state)
        return self._unfolded(x, h, state)

    def rest(self, state: TimeState) -> Iterator[Tensor]:
        """The frames that the convolution holds back when the clip has ended."""
        return last_of(self.conv, state, lambda h: self._unfolded(None, h, state))

    def _unfolded(self, x: Tensor | None, h: Tensor, state: TimeState) -> Tensor:
        out, start = unfold(h, self.stride), 0
        if self.residual:
            for part in state.wait(self, x, h.shape[2]):
                skip = unfold(part, self.stride)
                stop = start + skip.shape[2]
                out[:, :, start:stop].unflatten(1, (-1, skip.shape[1])).add_(skip[:, None])
                start = stop
        first = self.stride[0] > 1 and h.shape[2] and state.begins(self)
        return out[:, :, 1:] if first else out


class Encoder(nn.Module):
    """Pixels → moments."""

    def __init__(self, c: LtxConfig) -> None:
        super().__init__()
        around = Around(mirror=c.reflect[0])
        self.patch, self.mirrors, self.space = c.patch, c.reflect[0], c.compression(c.encoder)[1]
        self.conv_in = CausalConv3d(PIXELS * c.patch**2, c.encoder[0].inputs, around=around)
        self.down_blocks = nn.ModuleList([_encoder_block(block, around) for block in c.encoder])
        self.norm_out = PixelNorm()
        self.conv_out = CausalConv3d(c.encoder[-1].outputs, c.latent_channels + 1, around=around)

    def forward(self, video: Tensor, state: TimeState) -> Tensor:
        """[B, 3, T, H, W] → [B, 2C, t, h, w]; one logvar for all channels, repeated."""
        if self.mirrors:
            demand_mirrored(video, self.space, "frames", "encoder")
        x = patchify(video, self.patch)
        x = into(self.conv_in)(x, state)
        x = run(self.down_blocks, x, state)
        moments = normalise_and_convolve(self.norm_out, self.conv_out, x, state)
        logvar = moments[:, -1:].expand(-1, moments.shape[1] - 1, -1, -1, -1)
        return torch.cat([moments[:, :-1], logvar], dim=1)


class Decoder(nn.Module):
    """Latents → pixels."""

    def __init__(self, c: LtxConfig) -> None:
        super().__init__()
        conv, around = CausalConv3d if c.decoder_causal else DelayedConv3d, Around(mirror=c.reflect[1])
        width = c.decoder[-1].outputs
        self.patch, self.mirrors = c.patch, c.reflect[1]
        self.conv_in = conv(c.latent_channels, c.decoder[0].inputs, around=around)
        self.up_blocks = nn.ModuleList(
            [
                _decoder_block(conv, block, around, f"decoder.up_blocks.{n}")
                for n, block in enumerate(c.decoder)
            ]
        )
        self.norm_out = PixelNorm()
        self.conv_out = conv(width, PIXELS * c.patch**2, around=around)
        self.time_embedder = TimeEmbedder(2 * width) if c.timestep else None
        self.scale_shift_table = nn.Parameter(torch.zeros(2, width)) if c.timestep else None
        if c.timestep:
            self.register_buffer("timestep_scale_multiplier", torch.tensor(1000.0))

    def forward(
        self, latents: Tensor, state: TimeState, timestep: float, seed: int | None
    ) -> Iterator[Tensor]:
        """[B, C, t, h, w] → pieces [B, 3, T, H, W]. `seed` is that of the noise added inside; None: none."""
        if self.mirrors:
            demand_mirrored(latents, 1, "latents", "decoder")
        layers = list(self._layers(timestep, seed, state))
        return map(partial(unpatchify, patch=self.patch), cascade(layers, latents, state))

    def _layers(self, timestep: float, seed: int | None, state: TimeState) -> Iterator[Delayed]:
        """All layers in the order of execution, each with what it is told."""
        waves = told = None
        if self.time_embedder is not None:
            waves = waves_of(timestep * self.timestep_scale_multiplier)
            embedding = state.once(self.time_embedder, lambda: self.time_embedder(waves))
            told = self.scale_shift_table + embedding.view(2, -1)
        yield into(self.conv_in)
        for block in self.up_blocks:
            if isinstance(block, Stage):
                yield from block.layers(waves, seed, state)
            else:
                yield block
        yield Convolution(self.conv_out, lambda x, place: self.norm_out.silu_into(x, place, told))


class LtxVae(nn.Module):
    """The network. Its sides must fit the grid; frames that fill no latent give none."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        config = LtxConfig.of(spec.config)
        self.timestep, self.noisy = config.timestep, config.noisy
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.register_buffer("latents_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latents_std", torch.ones(config.latent_channels))

    def encode(self, video: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Pixels [B, 3, T, H, W] in [-1, 1] → moments [B, 2C, t, h, w], mean then raw logvar."""
        yield self.encoder(video, state)

    def decode(self, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Latents [B, C, t, h, w] → pixels [B, 3, T, H, W], not clamped, in pieces as they become known."""
        timestep, seed = 0.0, None
        if self.timestep:
            timestep = float(self.spec.setting("timestep"))
        if self.noisy and self.spec.setting("inject_noise"):
            seed = int(self.spec.setting("seed"))
        yield from self.decoder(latents, state, timestep, seed)


def _encoder_block(block: Block, around: Around) -> nn.Module:
    if block.kind == "res":
        return Stage(CausalConv3d, block, around, "encoder")
    if block.kind == "widen":
        return ResBlock(CausalConv3d, block, around, "encoder")
    return (Strided if block.kind == "strided" else Fold)(block, around)


def _decoder_block(conv: type[CausalConv3d], block: Block, around: Around, label: str) -> nn.Module:
    kinds = {"res": Stage, "widen": ResBlock}
    return (
        kinds[block.kind](conv, block, around, label) if block.kind in kinds else Unfold(conv, block, around)
    )


def demand_mirrored(x: Tensor, space: int, what: str, half: str) -> None:
    """Raise BadInput where a side of a clip [B, C, T, H, W] is one latent, which has no borders to mirror."""
    if min(x.shape[3:]) < 2 * space:
        raise BadInput(
            f"{what} of {x.shape[4]}x{x.shape[3]}: this {half} mirrors the borders of its frames, "
            f"which takes at least {2 * space}x{2 * space}",
            "use a larger size or larger tiles",
        )


def waves_of(timestep: Tensor) -> Tensor:
    """A timestep [] as cosines, then sines, of it at many frequencies: [2·FREQUENCIES] in float32."""
    exponents = torch.arange(FREQUENCIES, dtype=torch.float32, device=timestep.device) / FREQUENCIES
    angles = timestep * torch.exp(-math.log(SLOWEST) * exponents)
    return torch.cat([angles.cos(), angles.sin()])


def noise_plane(seed: int, label: str, height: int, width: int) -> Tensor:
    """Standard normal noise [height, width] in float32 for the layer of that name, the same everywhere."""
    number = int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "big")
    dice = np.random.Generator(np.random.PCG64([seed, number]))
    return torch.from_numpy(dice.standard_normal((height, width), dtype=np.float32))


def patchify(video: Tensor, patch: int) -> Tensor:
    """[B, C, T, H, W] → [B, C·patch², T, H/patch, W/patch]; columns of a patch go before its rows."""
    parts = video.unflatten(4, (-1, patch)).unflatten(3, (-1, patch))  # [B, C, T, h, row, w, column]
    return parts.permute(0, 2, 3, 5, 1, 6, 4).flatten(4).movedim(-1, 1)


def unpatchify(x: Tensor, patch: int) -> Tensor:
    """The inverse of `patchify`."""
    parts = x.unflatten(1, (-1, patch, patch))  # [B, C, column, row, T, h, w]
    return parts.permute(0, 4, 5, 3, 6, 2, 1).flatten(4, 5).flatten(2, 3).movedim(-1, 1)


def fold(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """[B, C, T, H, W] → [B, C·prod(stride), T', H', W']: frames, then rows, then columns into channels."""
    for dim, step in zip((2, 4, 6), stride, strict=True):
        x = x.unflatten(dim, (x.shape[dim] // step, step))  # [B, C, T', it, H', iy, W', ix]
    return x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).movedim(-1, 1)


def unfold(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """The inverse of `fold`."""
    parts = x.unflatten(1, (x.shape[1] // prod(stride), *stride))  # [B, C, it, iy, ix, T, H, W]
    parts = parts.permute(0, 5, 2, 6, 3, 7, 4, 1)
    return parts.flatten(5, 6).flatten(3, 4).flatten(1, 2).movedim(-1, 1)
