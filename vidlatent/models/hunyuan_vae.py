"""The VAE of HunyuanVideo 1.0 and FramePack: the Stable Diffusion tree, causal in time.

All convolutions are 3-D, among copies of the edge in space and of the first frame in time. Norms look at
the whole of a clip, and the attention in the middle at all frames so far, so a clip is cut into windows:
those of diffusers unless told otherwise. The authors' code cuts other ones, and the latent caches of
musubi-tuner none; each gives other latents, hence the named plans. The state is not used.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Self

from torch import Tensor, nn

from vidlatent.errors import BadWeights, UsageError
from vidlatent.grid import Grid
from vidlatent.models.base import Family, Layout, ModelSpec, Shapes
from vidlatent.models.causal import TimeState
from vidlatent.models.clips import empty_clip
from vidlatent.models.convolution import Around, CausalConv3d
from vidlatent.models.kl import Border, Decoder, Downsample, Encoder, FrameConv, Parts, Shape, VideoConv
from vidlatent.models.published import hub_of
from vidlatent.models.streaming import PastAttention, ResBlock
from vidlatent.models.subpixel import enlarge_causally, enlarge_frames, enlarge_pairs
from vidlatent.windows import Plan, TimeRule, even_tiles

EDGES = Border(low=1, high=1)  # copies of the edge in space
EDGES_AND_PAST = Border(before=2, low=1, high=1)  # and of the first frame in time
LICENCE = "Tencent Hunyuan Community (not in the EU, the UK and South Korea)"


@dataclass(frozen=True)
class HunyuanConfig:
    """What config.json says, with the published values."""

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 16
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    scaling_factor: float = 0.476986
    spatial_compression_ratio: int = 8
    mid_block_add_attention: bool = True

    @classmethod
    def of(cls, config: Mapping[str, object]) -> Self:
        """From a parsed config.json of either code; raises BadWeights where it cannot be built."""
        config = {AUTHORS_NAMES.get(key, key): value for key, value in config.items()}
        levels = len(config.get("block_out_channels", cls.block_out_channels))
        supported = {**SUPPORTED, "spatial_compression_ratio": (2 ** (levels - 1),)}
        for key, good in supported.items():
            value = config.get(key, good[0])
            if not set(value if isinstance(value, list | tuple) else [value]) <= set(good):
                raise BadWeights(
                    f"config of HunyuanVideo: {key} = {value!r} is not supported",
                    f"supported: {', '.join(map(str, good))}",
                )
        known = {f.name for f in fields(cls)}
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k in known})

    @property
    def shape(self) -> Shape:
        """Widths and depths of the tree: the last halvings are in time too, and the last doublings."""
        halvings = len(self.block_out_channels) - 1
        return Shape(
            stem=self.block_out_channels[0],
            widths=self.block_out_channels,
            blocks=self.layers_per_block,
            pixels=self.in_channels,
            latents=self.latent_channels,
            attended_middle=self.mid_block_add_attention,
            down_in_time=frozenset(range(halvings - 2, halvings)),
            up_in_time=frozenset((1, 2)),
        )


AUTHORS_NAMES = {"time_compression_ratio": "temporal_compression_ratio"}
SUPPORTED = {
    "act_fn": ("silu", "swish"),
    "temporal_compression_ratio": (4,),
    "down_block_types": ("HunyuanVideoDownBlock3D", "DownEncoderBlockCausal3D"),
    "up_block_types": ("HunyuanVideoUpBlock3D", "UpDecoderBlockCausal3D"),
}


class ClipBlock(ResBlock):
    """Residual block of a clip that comes as a whole; large ones go through it a few frames at a time."""

    def __init__(self, inputs: int, outputs: int, parts: Parts) -> None:
        super().__init__(partial(CausalConv3d, around=Around(edge=True)), inputs, outputs, parts.norm)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C', T, H, W]."""
        return super().forward(x, TimeState())


class ClipAttention(PastAttention):
    """Attention to all that a clip shows so far."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → the same, in the place of `x`."""
        return super().forward(x, TimeState())


class Up(nn.Module):
    """Nearest neighbours ×2 in space, or in space and time, then a causal convolution: done as smaller ones.

    The first frame is doubled in space alone, since the first latent stands for one frame.
    """

    def __init__(self, channels: int, in_time: bool) -> None:
        super().__init__()
        self.conv = VideoConv(channels, channels, EDGES if in_time else EDGES_AND_PAST)
        self.in_time = in_time

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C, T or 2T-1, 2H, 2W]."""
        weight, bias = self.conv.weight, self.conv.bias
        x = self.conv.border.around(x)
        if not self.in_time:
            return enlarge_causally(x, weight, bias, pad=0)
        frames, height, width = x.shape[2:]
        out = empty_clip(x, 2 * frames - 1, 2 * (height - 2), 2 * (width - 2))
        still = weight.sum(2)  # before the first frame there are copies of it
        enlarge_frames(x[:, :, :1], still, bias, pad=0, out=out[:, :, :1])
        if frames > 1:
            enlarge_pairs(x, weight, bias, pad=0, out=out[:, :, 1:])
        return out


class HunyuanVae(nn.Module):
    """The network; clips are independent windows, so `state` is ignored."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        config = HunyuanConfig.of(spec.config)
        self.encoder = Encoder(config.shape, _parts(config, _down))
        self.decoder = Decoder(config.shape, _parts(config, Up))
        c = config.latent_channels
        self.quant_conv, self.post_quant_conv = FrameConv(2 * c, 2 * c, kernel=1), FrameConv(c, c, kernel=1)

    def encode(self, video: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Pixels [B, 3, T, H, W] in [-1, 1] → moments [B, 2C, t, h, w], mean then raw logvar."""
        yield self.quant_conv(self.encoder(video))

    def decode(self, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Latents [B, C, t, h, w] → pixels [B, 3, 1 + 4(t-1), H, W], not clamped."""
        yield self.decoder(self.post_quant_conv(latents))


def _parts(config: HunyuanConfig, sampler: Callable[[int, bool], nn.Module]) -> Parts:
    conv = partial(VideoConv, border=EDGES_AND_PAST)
    return Parts(
        conv=conv,
        conv2=conv,
        shortcut=partial(FrameConv, kernel=1),
        sampler=sampler,
        attention=ClipAttention,
        groups=config.norm_num_groups,
        eps=1e-6,
        block=ClipBlock,
    )


def _down(channels: int, in_time: bool) -> Downsample:
    """Halve the sides, and the frames if `in_time`; both round up."""
    return Downsample(VideoConv(channels, channels, EDGES_AND_PAST, stride=(2 if in_time else 1, 2, 2)))


def windows(frames: int) -> tuple[TimeRule, TimeRule]:
    """How the reference cuts time into windows of so many frames, 1 + 16·k: for encode, and for decode.

    A quarter of a window is shared with the next. 17 are the windows of diffusers, where the one latent that
    would be blended has the weight 0 (that of the window before counts alone), and 65 those of the authors.
    """
    shared = (frames - 1) // 16  # latents
    if shared < 1 or (frames - 1) % 16:
        near = [1 + 16 * max(1, shared + more) for more in (0, 1)]
        raise UsageError(
            f"windows of {frames} frames that share a quarter with the next one do not fit the latents",
            f"1 + 16·k frames do (1 + 4·k latents), for instance {near[0]} or {near[1]}",
        )
    encode = TimeRule(12 * shared, 4 * shared + 1, blend=shared if shared > 1 else 0)
    return encode, TimeRule(3 * shared, shared + 1, blend=4 * shared)


GRID = Grid(time=4, space=8)
OF_DIFFUSERS = Plan(*windows(17))
OF_AUTHORS = Plan(*windows(65), *even_tiles(256, 0.25, GRID.space, slivers=True))
UNDIVIDED = Plan(*(replace(rule, stride=0, blend=0) for rule in windows(17)))


def spec_of(config: Mapping[str, object]) -> ModelSpec:
    """Spec of a HunyuanVideo VAE with this config.json, of diffusers or of the authors."""
    c = HunyuanConfig.of(config)
    return ModelSpec(
        name="hunyuan-video",
        family="hunyuan_vae",
        grid=Grid(GRID.time, c.spatial_compression_ratio),
        channels=c.latent_channels,
        plan=OF_DIFFUSERS,
        plans={"diffusers": OF_DIFFUSERS, "authors": OF_AUTHORS, "undivided": UNDIVIDED},
        scale=(c.scaling_factor,),
        tiles=partial(even_tiles, space=c.spatial_compression_ratio, slivers=True),
        tile_overlap=0.25,
        windows=windows,
        licence=LICENCE,
        summary="the VAE of HunyuanVideo and FramePack, in windows of 17 frames",
        config={"_class_name": CLASS_NAMES[0], **asdict(c)},
    )


_NAMES = (  # of both codes, which are alike → ours
    (r"\.group_norm\.", ".norm."),
    (r"\.to_out\.0\.", ".proj_out."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.(conv_in|conv_out|\w+samplers\.0\.conv)\.conv\.", r".\1."),
)


def rename(key: str) -> str:
    """A key of diffusers or of the authors → ours."""
    for pattern, name in _NAMES:
        key = re.sub(pattern, name, key)
    return key


def config_of(shapes: Shapes) -> Mapping[str, object]:
    """What the shapes of a file's tensors say of the network; the rest is as published."""
    levels = {key.split(".")[2] for key in shapes if key.startswith("encoder.down_blocks.")}
    blocks = {key.split(".")[4] for key in shapes if key.startswith("encoder.down_blocks.0.resnets.")}
    first = "encoder.down_blocks.{}.resnets.0.conv1.conv.weight"
    return {
        "_class_name": CLASS_NAMES[0],
        "in_channels": shapes["encoder.conv_in.conv.weight"][1],
        "out_channels": shapes["decoder.conv_out.conv.weight"][0],
        "latent_channels": shapes["post_quant_conv.weight"][0],
        "block_out_channels": [shapes[first.format(i)][0] for i in range(len(levels))],
        "layers_per_block": len(blocks),
        "spatial_compression_ratio": 2 ** (len(levels) - 1),
    }


CLASS_NAMES = ("AutoencoderKLHunyuanVideo", "AutoencoderKLCausal3D")
FAMILY = Family(
    name="hunyuan_vae",
    class_names=CLASS_NAMES,
    specs=(
        replace(
            spec_of({}),
            hub=hub_of(
                repo="hunyuanvideo-community/HunyuanVideo",
                file="vae/diffusion_pytorch_model.safetensors",
                config="vae/config.json",
            ),
        ),
    ),
    spec_of=spec_of,
    build=HunyuanVae,
    rename=rename,
    layouts=(
        Layout(
            name="diffusers and authors",
            marks=(
                "decoder.up_blocks.0.resnets.0.conv1.conv.weight",
                "encoder.mid_block.attentions.0.to_out.0.weight",
            ),
            rename=rename,
            config=config_of,
        ),
    ),
)
