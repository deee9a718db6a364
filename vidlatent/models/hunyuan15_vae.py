"""The VAE of HunyuanVideo 1.5, streaming-exact: every sampler folds neighbours into channels.

Norms look at one position alone and convolutions at copies of the edge, in space and before the clip, so a
clip may come in any pieces. The attention in the middle looks at all frames so far: the keys and values of
every latent frame are kept, unless `TimeState.past` limits how many; that limit is part of the plan, and so
of the latents. The first frame stands alone where frames go two by two.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from itertools import pairwise
from typing import Self

from torch import Tensor, nn

from vidlatent.errors import BadWeights
from vidlatent.grid import Grid
from vidlatent.models.base import Family, Layout, ModelSpec, Shapes
from vidlatent.models.causal import TimeState, joined
from vidlatent.models.clips import as_clip, as_frames, fold_cubes, unfold_cubes
from vidlatent.models.convolution import Around, CausalConv3d
from vidlatent.models.horizon import Horizon, back, narrowed, widened
from vidlatent.models.hunyuan_vae import LICENCE
from vidlatent.models.kl import from_ldm
from vidlatent.models.norms import RmsNorm
from vidlatent.models.published import hub_of
from vidlatent.models.streaming import (
    PastAttention,
    ResBlock,
    grow,
    into,
    normalise_and_convolve,
    run,
    shrink,
)
from vidlatent.windows import Plan, TimeRule, even_tiles

Conv = partial(CausalConv3d, around=Around(edge=True))
Block = partial(ResBlock, Conv, norm=RmsNorm)
TIME = 4  # frames per latent: two of the levels halve them


@dataclass(frozen=True)
class Hunyuan15Config:
    """What config.json says, with the published values."""

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 32
    block_out_channels: tuple[int, ...] = (128, 256, 512, 1024, 1024)
    layers_per_block: int = 2
    spatial_compression_ratio: int = 16
    scaling_factor: float = 1.03682
    shift_factor: float | None = None

    @classmethod
    def of(cls, config: Mapping[str, object]) -> Self:
        """From a parsed config.json of either code; raises BadWeights where it cannot be built."""
        config = {AUTHORS_NAMES.get(key, key): value for key, value in config.items()}
        levels = len(config.get("block_out_channels", cls.block_out_channels))
        for key, good in {**SUPPORTED, "spatial_compression_ratio": 2 ** (levels - 1)}.items():
            if config.get(key, good) != good:
                raise BadWeights(
                    f"config of HunyuanVideo 1.5: {key} = {config[key]!r} is not supported",
                    f"supported: {good}",
                )
        known = {f.name for f in fields(cls)}
        c = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k in known})
        if any(4 * a % b or b % (8 if in_time else 4) for a, b, in_time in c.steps()):
            raise BadWeights(
                f"config of HunyuanVideo 1.5: channels of {list(c.block_out_channels)} cannot be folded",
                "expected multiples of 8, each a divisor of 4 times the one before it",
            )
        return c

    def steps(self) -> list[tuple[int, int, bool]]:
        """From each level to the next coarser one: channels here and there, and whether time shrinks too."""
        pairs = list(pairwise(self.block_out_channels))
        return [(a, b, i >= len(pairs) - 2) for i, (a, b) in enumerate(pairs)]

    @property
    def horizon(self) -> Horizon:
        """Every convolution sees two frames back; the attention in the middle is not counted."""
        convolution, block = back(2), back(4)
        encoder, decoder = [convolution], [convolution, block, block]
        for _, _, in_time in self.steps():
            encoder += [*[block] * self.layers_per_block, convolution, *[narrowed(2, 2)] * in_time]
        for _, _, in_time in reversed(self.steps()):
            decoder += [*[block] * (self.layers_per_block + 1), convolution, *[widened(2)] * in_time]
        encoder += [*[block] * self.layers_per_block, block, block, convolution]
        decoder += [*[block] * (self.layers_per_block + 1), convolution]
        return Horizon.count(Grid(TIME, self.spatial_compression_ratio), encoder, decoder)


AUTHORS_NAMES = {
    "ffactor_spatial": "spatial_compression_ratio",
    "ffactor_temporal": "temporal_compression_ratio",
}
SUPPORTED = {
    "temporal_compression_ratio": TIME,
    "downsample_match_channel": True,
    "upsample_match_channel": True,
}


class Down(nn.Module):
    """Convolve and fold 2×2 pixels, of two frames if `in_time`, into channels; add the folded input's means.

    The first frame of a clip has no partner: its convolved half stands twice in the channels.
    """

    def __init__(self, inputs: int, outputs: int, in_time: bool) -> None:
        super().__init__()
        self.frames = 2 if in_time else 1
        self.conv = Conv(inputs, outputs // (4 * self.frames))

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → [B, C', T', H/2, W/2]; T' is T, or of T frames in all 1 + (T-1) // 2."""
        h = into(self.conv)(x, state)
        if self.frames == 1:
            return folded(h.add_(means(x, h.shape[1])), 1)
        first = 1 if x.shape[2] and state.begins(self) else 0
        parts = []
        if first:
            twice = folded(h[:, :, :1], 1).repeat(1, 2, 1, 1, 1)
            parts.append(twice.add_(folded(means(x[:, :, :1], 2 * h.shape[1]), 1)))
        h.add_(means(x, h.shape[1]))
        pairs = state.extend(self, h[:, :, first:], 2, 2, lead=None)
        parts.append(folded(pairs[:, :, : pairs.shape[2] // 2 * 2], 2))
        return joined(parts, sum(part.shape[2] for part in parts))


class Up(nn.Module):
    """Convolve, add the input's channels repeated, and unfold them to 2×2 pixels, of two frames if `in_time`.

    The first frame of a clip unfolds in space alone, to twice the channels, of which half are kept.
    """

    def __init__(self, inputs: int, outputs: int, in_time: bool) -> None:
        super().__init__()
        self.frames = 2 if in_time else 1
        self.conv = Conv(inputs, outputs * 4 * self.frames)

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → [B, C', T', 2H, 2W]; T' is T, or of T frames in all 2T-1."""
        h = into(self.conv)(x, state)
        first = 1 if self.frames == 2 and x.shape[2] and state.begins(self) else 0
        parts = []
        if first:
            kept = h[:, :, :1].unflatten(1, (4, 2, -1))[:, :, 0].flatten(1, 2)
            parts.append(unfolded(add_copies(kept, x[:, :, :1]), 1))
        parts.append(unfolded(add_copies(h[:, :, first:], x[:, :, first:]), self.frames))
        return joined(parts, sum(part.shape[2] for part in parts))


class Level(nn.Module):
    """Residual blocks of one width, and the step to the next level if there is one."""

    def __init__(self, width: int, blocks: int, sampler: nn.Module | None) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Block(width, width) for _ in range(blocks))
        self.sampler = sampler

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → [B, C', T', H', W']."""
        x = run(self.resnets, x, state)
        return x if self.sampler is None else self.sampler(x, state)


class Encoder(nn.Module):
    """Pixels → moments."""

    def __init__(self, c: Hunyuan15Config) -> None:
        super().__init__()
        widths, top = c.block_out_channels, c.block_out_channels[-1]
        samplers = [*(Down(*step) for step in c.steps()), None]
        self.conv_in = Conv(c.in_channels, widths[0])
        self.levels = nn.ModuleList(
            Level(width, c.layers_per_block, sampler) for width, sampler in zip(widths, samplers, strict=True)
        )
        self.middle = _middle(top)
        self.norm_out, self.conv_out = RmsNorm(top), Conv(top, 2 * c.latent_channels)

    def forward(self, video: Tensor, state: TimeState) -> Tensor:
        """[B, 3, T, H, W] → [B, 2C, t, h, w]."""
        first, *levels = self.levels
        x = shrink([into(self.conv_in), first], video, state, self.conv_in.conv.out_channels)
        for level in levels:
            x = shrink([level], x, state)
        x = run(self.middle, x, state)
        moments = normalise_and_convolve(self.norm_out, self.conv_out, x, state)
        return moments.add_(means(x, moments.shape[1]))


class Decoder(nn.Module):
    """Latents → pixels."""

    def __init__(self, c: Hunyuan15Config) -> None:
        super().__init__()
        widths = c.block_out_channels[::-1]
        samplers = [*(Up(there, here, in_time) for here, there, in_time in reversed(c.steps())), None]
        self.conv_in = Conv(c.latent_channels, widths[0])
        self.middle = _middle(widths[0])
        self.levels = nn.ModuleList(
            Level(width, c.layers_per_block + 1, sampler)
            for width, sampler in zip(widths, samplers, strict=True)
        )
        self.norm_out, self.conv_out = RmsNorm(widths[-1]), Conv(widths[-1], c.out_channels)

    def forward(self, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
        """[B, C, t, h, w] → [B, 3, T, H, W], in pieces."""
        pieces = grow([self._begin, *self.middle, *self.levels], latents, state)
        return map(lambda x: normalise_and_convolve(self.norm_out, self.conv_out, x, state), pieces)

    def _begin(self, latents: Tensor, state: TimeState) -> Tensor:
        return add_copies(into(self.conv_in)(latents, state), latents)


class Hunyuan15Vae(nn.Module):
    """The network. Frames that do not fill a latent give none; nobody pads here."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        config = Hunyuan15Config.of(spec.config)
        self.encoder, self.decoder = Encoder(config), Decoder(config)

    def encode(self, video: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Pixels [B, 3, T, H, W] in [-1, 1] → moments [B, 2C, t, h, w], mean then raw logvar."""
        yield self.encoder(video, state)

    def decode(self, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Latents [B, C, t, h, w] → pixels [B, 3, T, H, W], not clamped."""
        return self.decoder(latents, state)


def _middle(width: int) -> nn.ModuleList:
    return nn.ModuleList([Block(width, width), PastAttention(width, RmsNorm), Block(width, width)])


def means(x: Tensor, channels: int) -> Tensor:
    """[B, C, T, H, W] with the means of channels in a row instead, so that there are `channels`."""
    return x.movedim(1, -1).unflatten(-1, (channels, -1)).mean(-1).movedim(-1, 1)


def add_copies(h: Tensor, x: Tensor) -> Tensor:
    """Add to `h` [B, C·n, T, H, W], in place, the channels of `x` [B, C, T, H, W], each n times in a row."""
    h.movedim(1, -1).unflatten(-1, (x.shape[1], -1)).add_(x.movedim(1, -1)[..., None])
    return h


def folded(x: Tensor, frames: int) -> Tensor:
    """[B, C, T, H, W] → [B, frames·4·C, T/frames, H/2, W/2]; the channels of a pixel stay together."""
    if not x.shape[2]:
        return x.new_empty(len(x), 4 * frames * x.shape[1], 0, x.shape[3] // 2, x.shape[4] // 2)
    return as_clip(fold_cubes(x, frames, 2), len(x))


def unfolded(x: Tensor, frames: int) -> Tensor:
    """[B, frames·4·C, T, H, W] → [B, C, frames·T, 2H, 2W]: what `folded` was made of."""
    if not x.shape[2]:
        return x.new_empty(len(x), x.shape[1] // (4 * frames), 0, 2 * x.shape[3], 2 * x.shape[4])
    return unfold_cubes(as_frames(x), len(x), frames, 2)


def spec_of(config: Mapping[str, object]) -> ModelSpec:
    """Spec of a HunyuanVideo 1.5 VAE with this config.json, of diffusers or of the authors."""
    c = Hunyuan15Config.of(config)
    return ModelSpec(
        name="hunyuan-video-1.5",
        family="hunyuan15_vae",
        grid=Grid(TIME, c.spatial_compression_ratio),
        channels=c.latent_channels,
        plan=Plan(TimeRule(16), TimeRule(4)),
        scale=(c.scaling_factor,),
        shift=(c.shift_factor or 0.0,),
        tiles=partial(even_tiles, space=c.spatial_compression_ratio, slivers=True),
        tile_overlap=0.25,
        grows=2 * c.block_out_channels[-1],
        licence=LICENCE,
        summary="the VAE of HunyuanVideo 1.5, streaming-exact, with memory of the whole clip",
        config={"_class_name": CLASS_NAMES[0], **asdict(c)},
        horizon=c.horizon,
    )


_NAMES = (  # of diffusers, as `from_ldm` gives those of the authors too → ours
    (r"\.(down|up)_blocks\.", ".levels."),
    (r"\.(down|up)samplers\.0\.", ".sampler."),
    (r"\.mid_block\.resnets\.0\.", ".middle.0."),
    (r"\.mid_block\.attentions\.0\.", ".middle.1."),
    (r"\.mid_block\.resnets\.1\.", ".middle.2."),
    (r"\.group_norm\.", ".norm."),
    (r"\.to_out\.0\.", ".proj_out."),
    (r"\.conv_norm_out\.", ".norm_out."),
)


def rename(key: str) -> str:
    """A key of either code → ours."""
    key = from_ldm(key)
    for pattern, name in _NAMES:
        key = re.sub(pattern, name, key)
    return key


def config_of(shapes: Shapes) -> Mapping[str, object]:
    """What the shapes of a file's tensors say of the network; the rest is as published."""
    ours = {rename(key): shape for key, shape in shapes.items()}
    levels = {key.split(".")[2] for key in ours if key.startswith("encoder.levels.")}
    blocks = {key.split(".")[4] for key in ours if key.startswith("encoder.levels.0.resnets.")}
    first = "encoder.levels.{}.resnets.0.conv1.conv.weight"
    return {
        "_class_name": CLASS_NAMES[0],
        "in_channels": ours["encoder.conv_in.conv.weight"][1],
        "out_channels": ours["decoder.conv_out.conv.weight"][0],
        "latent_channels": ours["decoder.conv_in.conv.weight"][1],
        "block_out_channels": [ours[first.format(i)][0] for i in range(len(levels))],
        "layers_per_block": len(blocks),
        "spatial_compression_ratio": 2 ** (len(levels) - 1),
    }


CLASS_NAMES = ("AutoencoderKLHunyuanVideo15", "AutoencoderKLConv3D")
FAMILY = Family(
    name="hunyuan15_vae",
    class_names=CLASS_NAMES,
    specs=(
        replace(
            spec_of({}),
            hub=hub_of(
                repo="tencent/HunyuanVideo-1.5",
                file="vae/diffusion_pytorch_model.safetensors",
                config="vae/config.json",
            ),
        ),
    ),
    spec_of=spec_of,
    build=Hunyuan15Vae,
    rename=rename,
    layouts=(
        Layout(
            name="diffusers",
            marks=(
                "decoder.up_blocks.0.upsamplers.0.conv.conv.weight",
                "encoder.mid_block.attentions.0.proj_out.weight",
            ),
            rename=rename,
            config=config_of,
        ),
        Layout(
            name="authors",
            marks=("decoder.up.0.upsample.conv.conv.weight", "encoder.mid.attn_1.norm.gamma"),
            rename=rename,
            config=config_of,
        ),
    ),
)
