"""Pocket, our own small video VAE: the bundled default, light enough for a laptop.

Pixels are folded 4×4 into channels and refined frame by frame; then four frames and 2×2 positions
fold into one latent position, where causal residual blocks mix space and time. The decoder mirrors
it. Nothing is normalised over space or time, so streaming equals the whole clip. The first frame
is a group of its own: three copies of it stand in front.

Inside, activations are [B·T, C, H, W] channels-last, which is a free view of [B, C, T, H, W].
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidlatent.grid import Grid
from vidlatent.models.base import Family, ModelSpec
from vidlatent.models.causal import TimeState, in_parts
from vidlatent.windows import Plan, TimeRule, even_tiles

GRID = Grid(time=4, space=8)
PATCH = 4  # pixels folded into channels at once
KERNEL = 3  # steps in time that a block looks at: its own and those before
AT_ONCE = 2  # frames at 1/4 size that are encoded together: few stay in the cache of a CPU
FOLD = GRID.space // PATCH  # positions folded together with GRID.time frames


@dataclass(frozen=True)
class PocketConfig:
    """Shape of the network: `stem` channels at 1/4 size, `width` at latent size.

    `stem_time` says whether blocks at 1/4 size look back over three frames, or stay within theirs.
    """

    latent_channels: int = 16
    stem: int = 64
    width: int = 160
    encoder_stem_blocks: int = 1
    encoder_blocks: int = 4
    decoder_blocks: int = 6
    decoder_stem_blocks: int = 2
    stem_time: bool = False
    latent_noise: float = 0.05  # standard deviation of the noise it was trained to bear

    @classmethod
    def of(cls, config: Mapping[str, object]) -> "PocketConfig":
        """From a config.json, ignoring keys that are not the network's."""
        return cls(**{f.name: config[f.name] for f in fields(cls) if f.name in config})


class FrameBlock(nn.Module):
    """Residual block within a frame: two 3×3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, _batch: int, _state: TimeState) -> Tensor:
        """[B·T, C, H, W] → the same."""
        return add(x, self.conv2(silu(self.conv1(x))))


class TimeBlock(nn.Module):
    """Residual block: a 3×3 convolution in space, then a causal one over three steps of time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.space = nn.Conv2d(channels, channels, 3, padding=1)
        self.time = nn.Conv3d(channels, channels, (KERNEL, 1, 1))

    def forward(self, x: Tensor, batch: int, state: TimeState) -> Tensor:
        """[B·t, C, h, w] → the same."""
        y = unfold_time(silu(self.space(x)), batch)
        if torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype != torch.float32:
            return add(x, fold_time(over_time(self.time, state.extend(self, y, KERNEL))))
        x, frames = x.contiguous(memory_format=torch.channels_last), y.unbind(2)
        seen = [*(state.kept(self) or frames[:1] * (KERNEL - 1)), *frames]
        add_over_time(self.time, unfold_time(x, batch), seen)
        few = len(frames) < KERNEL  # else the last ones are views that would hold all the others
        state.keep(self, *(frame if few else frame.clone() for frame in seen[1 - KERNEL :]))
        return x


def stem_blocks(c: PocketConfig, count: int) -> nn.ModuleList:
    """The residual blocks at 1/4 size."""
    kind = TimeBlock if c.stem_time else FrameBlock
    return nn.ModuleList(kind(c.stem) for _ in range(count))


class Encoder(nn.Module):
    """Pixels → latents."""

    def __init__(self, c: PocketConfig) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3 * PATCH**2, c.stem, 3, padding=1)
        self.stem_blocks = stem_blocks(c, c.encoder_stem_blocks)
        cube = (GRID.time, FOLD, FOLD)
        self.fold = nn.Conv3d(c.stem, c.width, cube, stride=cube)
        self.blocks = nn.ModuleList(TimeBlock(c.width) for _ in range(c.encoder_blocks))
        self.head = nn.Conv2d(c.width, c.latent_channels, 1)

    def forward(self, video: Tensor, state: TimeState) -> Tensor:
        """[B, 3, T, H, W] → [B, C, t, H/8, W/8]."""
        batch = video.shape[0]
        frames = video.shape[2]
        at_once = frames if torch.is_grad_enabled() else AT_ONCE
        x = in_parts(self.near_pixels, video.split(at_once, dim=2), frames, state)
        x = state.extend(self, x, kernel=GRID.time, stride=GRID.time)
        x = fold_time(self.fold(x))  # [B·t, width, h, w]
        for block in self.blocks:
            x = block(x, batch, state)
        return unfold_time(self.head(x), batch)

    def near_pixels(self, video: Tensor, state: TimeState) -> Tensor:
        """[B, 3, T, H, W] → [B, stem, T, H/4, W/4]."""
        batch = video.shape[0]
        x = self.stem(F.pixel_unshuffle(fold_time(video), PATCH))
        for block in self.stem_blocks:
            x = block(x, batch, state)
        return unfold_time(x, batch)


class Decoder(nn.Module):
    """Latents → pixels."""

    def __init__(self, c: PocketConfig) -> None:
        super().__init__()
        self.head = nn.Conv2d(c.latent_channels, c.width, 1)
        self.blocks = nn.ModuleList(TimeBlock(c.width) for _ in range(c.decoder_blocks))
        cube = (GRID.time, FOLD, FOLD)
        self.unfold = nn.ConvTranspose3d(c.width, c.stem, cube, stride=cube)
        self.stem_blocks = stem_blocks(c, c.decoder_stem_blocks)
        self.stem = nn.Conv2d(c.stem, 3 * PATCH**2, 3, padding=1)

    def forward(self, latents: Tensor, state: TimeState) -> Tensor:
        """[B, C, t, h, w] → [B, 3, T, 8h, 8w]."""
        batch = latents.shape[0]
        x = self.head(fold_time(latents))
        for block in self.blocks:
            x = block(x, batch, state)
        x = unfold_time(x, batch)
        first = GRID.time - 1 if state.begins(self) else 0  # the first latent stands for one frame
        if torch.is_grad_enabled():
            return self.near_pixels(self.unfold(x)[:, :, first:], state)
        numbers = range(first, GRID.time * x.shape[2])
        return in_parts(
            lambda n, state: self.near_pixels(self.unfolded(x, n), state), numbers, len(numbers), state
        )

    def unfolded(self, x: Tensor, n: int) -> Tensor:
        """Frame `n` of groups [B, width, t, h, w] → [B, stem, 1, H/4, W/4], channels-last."""
        group, frame = divmod(n, GRID.time)
        weight = self.unfold.weight[:, :, frame]
        return F.conv_transpose2d(x[:, :, group], weight, self.unfold.bias, stride=FOLD)[:, :, None]

    def near_pixels(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, stem, T, H/4, W/4] → [B, 3, T, H, W]."""
        batch, x = x.shape[0], fold_time(x)
        for block in self.stem_blocks:
            x = block(x, batch, state)
        return unfold_time(F.pixel_shuffle(self.stem(x), PATCH), batch)


class PocketVAE(nn.Module):
    """The whole model; its posterior has the constant variance it was trained to bear."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        config = PocketConfig.of(spec.config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.logvar = 2 * math.log(config.latent_noise)

    def encode(self, video: Tensor, state: TimeState) -> Tensor:
        """[B, 3, T, H, W] in [-1, 1] → moments [B, 2C, t, h, w]; off-grid tails and edges are floored."""
        rows, columns = (side // GRID.space * GRID.space for side in video.shape[-2:])
        mean = self.encoder(video[..., :rows, :columns], state)
        return torch.cat([mean, torch.full_like(mean, self.logvar)], dim=1)

    def decode(self, latents: Tensor, state: TimeState) -> Tensor:
        """[B, C, t, h, w] → [B, 3, T, H, W], not clamped."""
        return self.decoder(latents, state)


def silu(x: Tensor) -> Tensor:
    """SiLU, in place where no gradient is wanted."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def add(x: Tensor, y: Tensor) -> Tensor:
    """x + y, into x where no gradient is wanted."""
    return x + y if torch.is_grad_enabled() else x.add_(y)


def over_time(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """A (3, 1, 1) convolution of [B, C, T, H, W], as one in two dimensions: far faster on a CPU."""
    flat = F.conv2d(x.flatten(3), conv.weight.squeeze(-1), conv.bias)
    return flat.unflatten(3, x.shape[3:])


def add_over_time(conv: nn.Conv3d, x: Tensor, frames: list[Tensor]) -> None:
    """Add to `x` [B, C, T, H, W], channels-last, what `conv` makes of KERNEL - 1 + T `frames` [B, C, H, W].

    Each frame is a product of matrices, summed into its place: no joined copy of the frames, and no result
    beside the sum. On a CPU 1.2 times as fast as a convolution.
    """
    x.add_(conv.bias.view(-1, 1, 1, 1))
    taps = [tap.t().contiguous() for tap in conv.weight.flatten(2).unbind(2)]
    for t, sums in enumerate(x.unbind(2)):
        for tap, frame in zip(taps, frames[t:], strict=False):
            for into, pixels in zip(sums.movedim(1, -1), frame.movedim(1, -1), strict=True):
                into.view(-1, len(tap)).addmm_(pixels.flatten(0, 1), tap)


def fold_time(x: Tensor) -> Tensor:
    """[B, C, T, H, W] → [B·T, C, H, W], free of copies when channels-last."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold_time(x: Tensor, batch: int) -> Tensor:
    """[B·T, C, H, W] → [B, C, T, H, W]."""
    return x.unflatten(0, (batch, -1)).transpose(1, 2)


def spec_of(config: Mapping[str, object]) -> ModelSpec:
    """Spec of a Pocket network with this config."""
    shape = PocketConfig.of(config)
    return ModelSpec(
        name=str(config.get("name", "pocket")),
        family="pocket",
        grid=GRID,
        channels=shape.latent_channels,
        plan=Plan(encode_time=TimeRule(16), decode_time=TimeRule(4)),
        scale=tuple(config.get("scale", (1.0,))),
        shift=tuple(config.get("shift", (0.0,))),
        licence="Apache-2.0",
        tiles=lambda tile, overlap: even_tiles(tile, overlap, GRID.space),
        summary="our own small model, bundled: streaming-exact, for laptops, previews and tests",
        config={"_class_name": "PocketVAE", **config, **asdict(shape)},
    )


FAMILY = Family(
    name="pocket",
    class_names=("PocketVAE",),
    specs=(spec_of({}),),
    spec_of=spec_of,
    build=PocketVAE,
    rename=lambda key: key,
)
