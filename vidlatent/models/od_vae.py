"""OD-VAE: the CausalVideoVAE of Open-Sora-Plan 1.0 to 1.2, and the variants of its paper (arXiv 2409.01199).

Every module is named by config.json; the tables below say what each name is. The norms take their
statistics over all frames of a call, so a clip cannot be continued: every call is a clip of its own,
and how a long clip is cut into calls is part of its latents.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidlatent.errors import BadWeights, UsageError
from vidlatent.models.base import Family, ModelSpec
from vidlatent.models.causal import TimeState
from vidlatent.models.clips import repeat_first
from vidlatent.models.convolution import CausalConv3d, FrameConv2d
from vidlatent.models.layers import Attention, Down, NearestUp, ResBlock, Up, double_time
from vidlatent.models.norms import GroupNorm
from vidlatent.models.od_config import MERGED_DOWN, MERGED_UP, V10_CONFIG, V11_CONFIG, V12_CONFIG, OdConfig
from vidlatent.models.published import hub_of
from vidlatent.windows import Plan, Tiling, TimeRule

DIFFUSERS_FILE = "diffusion_pytorch_model.safetensors"
SCALE = 0.18215  # what the authors' diffusion models multiply latents by


class LegacyAttention(Attention):
    """The attention of v1.0, which forgets to move time before it folds, so mixes channels with frames."""

    @staticmethod
    def fold(x: Tensor) -> Tensor:
        """The [C, T] list of planes, cut into T groups of C: [B·T, C, H, W]."""
        return x.contiguous().flatten(1, 2).unflatten(1, (x.shape[2], x.shape[1])).flatten(0, 1)

    @staticmethod
    def unfold(frames: Tensor, batch: int) -> Tensor:
        """The inverse of `fold`."""
        channels = frames.shape[1]
        return frames.reshape(batch, channels, -1, *frames.shape[2:])


class TimeDown(nn.Module):
    """Halve the frame rate by the mean of three frames, the first preceded by two copies of itself."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C, (T+1)/2, H, W], rounded down."""
        return F.avg_pool3d(repeat_first(x, 2), (3, 1, 1), (2, 1, 1))


class TimeDownMix(nn.Module):
    """The mean of three frames, mixed with a strided convolution of the same frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.zeros(1))
        self.conv = nn.Conv3d(channels, channels, 3, (2, 1, 1), (0, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C, (T+1)/2, H, W], rounded down."""
        x = repeat_first(x, 2)
        return self.conv(x).lerp_(F.avg_pool3d(x, (3, 1, 1), (2, 1, 1)), self.mix_factor.sigmoid())


class TimeUp(nn.Module):
    """Double the frame rate by linear interpolation."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C, 2T-1, H, W]."""
        return double_time(x)


class TimeUpMix(nn.Module):
    """Double the frame rate by linear interpolation, mixed with a convolution of the result."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.zeros(1))
        self.conv = CausalConv3d(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C, 2T-1, H, W]."""
        x = double_time(x, self.conv.front)
        return self.conv.ready(x).lerp_(x[:, :, self.conv.front :], self.mix_factor.sigmoid())


Builder = Callable[..., nn.Module]
CONVS = {"Conv2d": FrameConv2d, "CausalConv3d": CausalConv3d}
BLOCKS = {"ResnetBlock2D": partial(ResBlock, FrameConv2d), "ResnetBlock3D": partial(ResBlock, CausalConv3d)}
ATTENTIONS = {
    "AttnBlock": partial(Attention, conv=FrameConv2d),
    "AttnBlock3D": LegacyAttention,
    "AttnBlock3DFix": Attention,
}
SPACE_DOWN = {
    "Downsample": lambda c: Down(FrameConv2d(c, c, 3, 2, 0)),
    "SpatialDownsample2x": lambda c: Down(CausalConv3d(c, c, (1, 3, 3), (1, 2, 2), 0)),
    "Spatial2x3DDownsample": lambda c: Down(CausalConv3d(c, c, 3, (1, 2, 2), 0)),
    MERGED_DOWN: lambda c: Down(CausalConv3d(c, c, 3, 2, 0)),
}
TIME_DOWN = {"TimeDownsample2x": lambda _: TimeDown(), "TimeDownsampleRes2x": TimeDownMix}
SPACE_UP = {
    "Upsample": lambda c: NearestUp(FrameConv2d(c, c, 3, 1, 1)),
    "SpatialUpsample2x": lambda c: NearestUp(CausalConv3d(c, c, (1, 3, 3))),
    "Spatial2x3DUpsample": lambda c: Up(CausalConv3d(c, c)),
    MERGED_UP: lambda c: Up(CausalConv3d(c, c), time=True),
}
TIME_UP = {"TimeUpsample2x": lambda _: TimeUp(), "TimeUpsampleRes2x": TimeUpMix}


def pick(table: Mapping[str, Builder], name: str) -> Builder:
    """The module a config names; raises BadWeights for a name that no release knows."""
    if name not in table:
        raise BadWeights(f"config: unknown module {name!r}", f"known here: {', '.join(table)}")
    return table[name]


class Level(nn.Module):
    """The layers of one resolution, by the authors' names."""

    def __init__(
        self, widths: list[int], block: str, attention: Builder | None, samplers: Mapping[str, Builder | None]
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(pick(BLOCKS, block)(n, m) for n, m in pairwise(widths))
        self.attn = nn.ModuleList(attention(width) for width in widths[1:] if attention)
        self._samplers = tuple(name for name, build in samplers.items() if build)
        for name in self._samplers:
            self.add_module(name, samplers[name](widths[-1]))

    def layers(self) -> Iterator[nn.Module]:
        """Residual blocks, each followed by its attention where there is one; then the samplers."""
        for i, block in enumerate(self.block):
            yield block
            if self.attn:
                yield self.attn[i]
        yield from map(self.get_submodule, self._samplers)


class Middle(nn.Module):
    """The layers at the coarsest resolution: residual block, attention, residual block."""

    def __init__(self, block: Builder, attention: Builder, width: int) -> None:
        super().__init__()
        self.block_1, self.attn_1, self.block_2 = block(width, width), attention(width), block(width, width)

    def layers(self) -> Iterator[nn.Module]:
        """In order."""
        return iter((self.block_1, self.attn_1, self.block_2))


class Encoder(nn.Module):
    """Pixels → moments, before the quant convolution."""

    def __init__(self, config: OdConfig) -> None:
        super().__init__()
        c, widths = config, config.widths
        attention, resolution = pick(ATTENTIONS, c.encoder_attention), c.resolution
        self.conv_in = pick(CONVS, c.encoder_conv_in)(3, c.hidden_size, 3, 1, 1)
        self.down = nn.ModuleList()
        for i, width in enumerate(widths):
            space, time = c.encoder_spatial_downsample[i], c.encoder_temporal_downsample[i]
            self.down.append(
                Level(
                    [widths[i - 1] if i else c.hidden_size] + [width] * c.num_res_blocks,
                    c.encoder_resnet_blocks[i],
                    attention if resolution in c.attn_resolutions else None,
                    {
                        "downsample": pick(SPACE_DOWN, space) if space else None,
                        "time_downsample": pick(TIME_DOWN, time) if time else None,
                    },
                )
            )
            resolution //= 2 if space else 1
        self.mid = Middle(pick(BLOCKS, c.encoder_mid_resnet), attention, widths[-1])
        self.norm_out = GroupNorm(widths[-1])
        self.conv_out = pick(CONVS, c.encoder_conv_out)(widths[-1], 2 * c.z_channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, T, H, W] → [B, 2·z, t, h, w]."""
        x = self.conv_in(x)
        for layer in chain(*(level.layers() for level in self.down), self.mid.layers()):
            x = layer(x)  # one flat loop: nothing else holds on to a clip that is done with
        return self.conv_out.ready(self.norm_out.silu(x, self.conv_out.front))


class Decoder(nn.Module):
    """Latents, after the post-quant convolution → pixels."""

    def __init__(self, config: OdConfig) -> None:
        super().__init__()
        c, widths = config, config.widths
        attention, resolution = pick(ATTENTIONS, c.decoder_attention), c.resolution >> (len(widths) - 1)
        self.conv_in = pick(CONVS, c.decoder_conv_in)(c.z_channels, widths[-1], 3, 1, 1)
        self.mid = Middle(pick(BLOCKS, c.decoder_mid_resnet), attention, widths[-1])
        levels = []
        for i, width in reversed(list(enumerate(widths))):
            space, time = c.decoder_spatial_upsample[i], c.decoder_temporal_upsample[i]
            levels.append(
                Level(
                    [widths[min(i + 1, len(widths) - 1)]] + [width] * (c.num_res_blocks + 1),
                    c.decoder_resnet_blocks[i],
                    attention if resolution in c.attn_resolutions else None,
                    {
                        "upsample": pick(SPACE_UP, space) if space else None,
                        "time_upsample": pick(TIME_UP, time) if time else None,
                    },
                )
            )
            resolution *= 2 if space else 1
        self.up = nn.ModuleList(reversed(levels))
        self.norm_out = GroupNorm(widths[0])
        self.conv_out = pick(CONVS, c.decoder_conv_out)(widths[0], 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, z, t, h, w] → [B, 3, T, H, W]."""
        x = self.conv_in(x)
        for layer in chain(self.mid.layers(), *(level.layers() for level in reversed(self.up))):
            x = layer(x)
        return self.conv_out.ready(self.norm_out.silu(x, self.conv_out.front))


class OdVae(nn.Module):
    """The network. Sides and lengths off the grid are floored, as in the authors' code; nobody pads here."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        c = OdConfig.of(spec.config)
        self.encoder, self.decoder = Encoder(c), Decoder(c)
        if c.use_quant_layer:
            conv = pick(CONVS, c.q_conv)
            self.quant_conv = conv(2 * c.z_channels, 2 * c.embed_dim, 1, 1, 0)
            self.post_quant_conv = conv(c.embed_dim, c.z_channels, 1, 1, 0)
        else:
            self.quant_conv, self.post_quant_conv = nn.Identity(), nn.Identity()

    def encode(self, video: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Pixels [B, 3, T, H, W] in [-1, 1] → moments [B, 2C, t, h, w]; needs no state."""
        yield self.quant_conv(self.encoder(video.contiguous(memory_format=torch.channels_last_3d)))

    def decode(self, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Latents [B, C, t, h, w] → pixels [B, 3, T, H, W], not clamped; needs no state."""
        latents = latents.contiguous(memory_format=torch.channels_last_3d)
        yield self.decoder(self.post_quant_conv(latents))


def tilings(space: int, pixels: int, overlap: float) -> tuple[Tiling, Tiling]:
    """Tiles of `pixels` sharing a fraction `overlap` with their neighbour: (encode, decode).

    The authors truncate pixels and latents apart; where the two disagree, tiles would silently be
    put beside their place, so such an overlap is an error.
    """
    latents = pixels // space
    step, blend, keep = _cut(pixels, latents, overlap)
    latent_step, pixel_blend, pixel_keep = _cut(latents, pixels, overlap)
    if pixels % space or not 0 < step == keep * space or not 0 < latent_step * space == pixel_keep:
        raise UsageError(
            f"tiles of {pixels} px with overlap {overlap} do not fit a grid of {space} px: "
            f"pixels would step by {step}, latents by {keep} × {space} = {keep * space}",
            f"take a multiple of {8 * space} px, and an overlap of 0.125 or 0.25",
        )
    encode = Tiling(pixels, step, blend, keep, slivers=True)
    return encode, Tiling(latents, latent_step, pixel_blend, pixel_keep, slivers=True)


def _cut(size: int, outputs: int, overlap: float) -> tuple[int, int, int]:
    """Step of a tile, and what of its outputs is blended and kept."""
    blend = int(outputs * overlap)
    return int(size * (1 - overlap)), blend, outputs - blend


# Frames and latents between window starts, and tile overlap, as each release's code sets them. v1.0 declares
# v1.1's numbers but never cuts in time. Nothing here may hold a whole clip, so it is cut by them: up to
# 65 frames (17 latents) nothing changes, and `window=0` asks for what the authors' code does beyond.
V11_CUTS, V12_CUTS = (64, 16, 0.25), (32, 15, 0.125)


def spec_of(config: Mapping[str, object], name: str = "od-vae", **facts) -> ModelSpec:
    """The spec of any config of the architecture; its release is told by the modules that halve time."""
    c = OdConfig.of(config)
    frames, latents, overlap = V12_CUTS if MERGED_DOWN in c.downsamplers else V11_CUTS
    return ModelSpec(
        name=name,
        family="od_vae",
        grid=c.grid,
        channels=c.channels,
        plan=Plan(TimeRule(frames, overlap=1), TimeRule(latents, overlap=1)),
        scale=(SCALE,),
        config=dict(config),
        tiles=partial(tilings, c.grid.space),
        tile_overlap=overlap,
        **facts,
    )


def rename(key: str) -> str | None:
    """Our names are the authors'; the losses that a training checkpoint carries are dropped."""
    return None if "loss" in key.split(".") else key


def _release(version: str, config: Mapping[str, object], file: str, summary: str) -> ModelSpec:
    repo = f"LanguageBind/Open-Sora-Plan-v{version}.0"
    hub = hub_of(repo, f"vae/{file}", "vae/config.json")
    return spec_of(config, f"od-vae-{version}", licence="MIT", summary=summary, hub=hub)


FAMILY = Family(
    name="od_vae",
    class_names=("CausalVAEModel",),
    specs=(
        _release("1.0", V10_CONFIG, DIFFUSERS_FILE, "Open-Sora-Plan 1.0: all 3-D"),
        _release("1.1", V11_CONFIG, DIFFUSERS_FILE, "Open-Sora-Plan 1.1: half 2-D encoder, learned mix"),
        _release("1.2", V12_CONFIG, "checkpoint.ckpt", "OD-VAE as published (variant 4), Open-Sora-Plan 1.2"),
    ),
    spec_of=spec_of,
    build=OdVae,
    rename=rename,
)
