"""WF-VAE (arXiv 2411.17459): a video VAE around a pyramid of Haar wavelets, streaming-exact both ways.

Its norms look at the channels of one position alone, its convolutions are causal, so a clip may
come in any pieces: what a layer still needs of the past is in the TimeState. The decoder doubles
the frames linearly, which looks one latent ahead; what it owes comes with the next call, and all
of it with the last. As in Open-Sora-Plan v1.3 and the authors' own repository.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial, reduce

import torch
from torch import Tensor, nn

from vidlatent.errors import BadWeights
from vidlatent.grid import Grid
from vidlatent.models.base import Family, ModelSpec
from vidlatent.models.causal import TimeState
from vidlatent.models.convolution import CausalConv3d, FrameConv2d
from vidlatent.models.haar import Haar3d, InverseHaar3d, haar2d, inverse_haar2d
from vidlatent.models.horizon import Horizon, Step, back, narrowed, widened
from vidlatent.models.norms import GroupNorm
from vidlatent.models.published import hub_of
from vidlatent.models.streaming import (
    Attention,
    ChannelNorm,
    Down,
    ResBlock,
    Still,
    TimeUp,
    Up,
    convolve,
    run,
)
from vidlatent.windows import Plan, TimeRule, even_tiles

GRID = Grid(time=4, space=8)
PIXELS = 3
BANDS2, BANDS3 = 4 * PIXELS, 8 * PIXELS


@dataclass(frozen=True)
class WfConfig:
    """What config.json says, with the defaults of the authors' class."""

    latent_dim: int = 8
    base_channels: int = 128
    encoder_num_resblocks: int = 2
    encoder_energy_flow_hidden_size: int = 64
    decoder_num_resblocks: int = 2
    decoder_energy_flow_hidden_size: int = 128
    connect_res_layer_num: int = 2
    use_attention: bool = True
    norm_type: str = "groupnorm"
    t_interpolation: str = "nearest"
    scale: tuple[float, ...] = (0.18215,)
    shift: tuple[float, ...] = (0.0,)

    @classmethod
    def of(cls, config: Mapping[str, object]) -> "WfConfig":
        """From a parsed config.json; raises BadWeights where it cannot be built."""
        known = {f.name for f in fields(cls)}
        for key, good in SUPPORTED.items():
            if config.get(key, good[0]) not in good:
                raise BadWeights(
                    f"config of WFVAEModel: {key} = {config[key]!r} is not supported",
                    f"supported: {', '.join(good)}",
                )
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k in known})

    @property
    def streams(self) -> bool:
        """Whether the norms leave every frame to itself."""
        return self.norm_type == "layernorm"

    @property
    def norm(self) -> Callable[[int], nn.Module]:
        """The norm of every block."""
        return ChannelNorm if self.streams else GroupNorm

    @property
    def frame_norm(self) -> Callable[[int], nn.Module]:
        """The norm of the blocks that see frames one by one."""
        return ChannelNorm if self.streams else partial(GroupNorm, per_frame=True)


def horizon_of(c: WfConfig) -> Horizon:
    """Convolutions of clips see two frames back, wavelets pairs; the longest of three ways through each half.

    That of the video itself, and those of the finer and the coarser bands beside it.
    """
    convolution, block, pairs = back(2), back(4), narrowed(2, 2)
    middle = [block, block]
    down = [*[block] * c.encoder_num_resblocks, narrowed(2, 3)]
    into = [convolution, *middle]
    up = [*into, *[block] * c.decoder_num_resblocks, _doubled(c), convolution, block]
    layers = [*[block] * c.decoder_num_resblocks, block, *middle]
    connected = [block] * c.connect_res_layer_num
    ways = (
        ([pairs, *down, *middle, convolution], [*up, *layers, widened(2)]),
        ([pairs, *down, *middle, convolution], [*up, *connected, widened(2)]),
        ([pairs, pairs, *middle, convolution], [*into, *connected, widened(2), widened(2)]),
    )
    first, *others = (Horizon.count(GRID, *way) for way in ways)
    return reduce(Horizon.joined, others, first)


def _doubled(c: WfConfig) -> Step:
    """Where time is doubled linearly, the first frame of a pair is made of the one before, too."""
    return (lambda frame: frame // 2) if c.t_interpolation == "trilinear" else widened(2)


SUPPORTED = {
    "norm_type": ("groupnorm", "layernorm"),
    "t_interpolation": ("nearest", "trilinear"),
    "l1_dowmsample_block": ("Downsample",),  # so spelled in Open-Sora-Plan
    "l2_dowmsample_block": ("Spatial2xTime2x3DDownsample",),
    "l1_downsample_block": ("Downsample",),
    "l2_downsample_block": ("Spatial2xTime2x3DDownsample",),
    "l1_downsample_wavelet": ("HaarWaveletTransform2D",),
    "l2_downsample_wavelet": ("HaarWaveletTransform3D",),
    "l1_upsample_block": ("Upsample",),
    "l2_upsample_block": ("Spatial2xTime2x3DUpsample",),
    "l1_upsample_wavelet": ("InverseHaarWaveletTransform2D",),
    "l2_upsample_wavelet": ("InverseHaarWaveletTransform3D",),
}
RELEASED = {  # what the published models have in common
    "_class_name": "WFVAEModel",
    "encoder_energy_flow_hidden_size": 128,
    "connect_res_layer_num": 1,
    "norm_type": "layernorm",
    "t_interpolation": "trilinear",
}


class Encoder(nn.Module):
    """Pixels → moments; `down*` carries the video, `connect_*` the wavelets."""

    def __init__(self, c: WfConfig) -> None:
        super().__init__()
        width, energy, norm = c.base_channels, c.encoder_energy_flow_hidden_size, c.norm
        blocks = range(c.encoder_num_resblocks)
        self.down1 = nn.ModuleList(
            [
                Still(BANDS3, width),
                *(ResBlock(FrameConv2d, width, width, c.frame_norm) for _ in blocks),
                Down(FrameConv2d(width, width, 3, 2, 0)),
            ]
        )
        self.down2 = nn.ModuleList(
            [
                Still(width + energy, 2 * width),
                *(ResBlock(CausalConv3d, 2 * width, 2 * width, norm) for _ in blocks),
                Down(CausalConv3d(2 * width, 2 * width, 3, 2, 0)),
            ]
        )
        self.connect_l1, self.connect_l2 = Still(BANDS2, energy), Still(BANDS3, energy)
        self.mid = _middle(2 * width + energy, 4 * width, 4 * width, c.use_attention, norm)
        self.norm_out = norm(4 * width)
        self.conv_out = CausalConv3d(4 * width, 2 * c.latent_dim)
        self.haar_in, self.haar_l2 = Haar3d(), Haar3d()

    def forward(self, video: Tensor, state: TimeState) -> Tensor:
        """[B, 3, T, H, W] → [B, 2C, t, h, w]."""
        bands = self.haar_in(video, state)  # [B, 24, T/2, H/2, W/2]
        bands1 = haar2d(bands[:, :PIXELS])  # [B, 12, T/2, H/4, W/4]
        bands2 = self.haar_l2(bands1[:, :PIXELS], state)  # [B, 24, t, h, w]
        x = run(self.down1, channels_last(bands), state)
        x = run(self.down2, join(x, self.connect_l1(channels_last(bands1), state)), state)
        x = run(self.mid, join(x, self.connect_l2(channels_last(bands2), state)), state)
        return convolve(self.conv_out, self.norm_out.silu(x), state)


class Decoder(nn.Module):
    """Latents → pixels; `up*` carries the video, `connect_*` the wavelets."""

    def __init__(self, c: WfConfig) -> None:
        super().__init__()
        width, energy, norm = c.base_channels, c.decoder_energy_flow_hidden_size, c.norm
        blocks = range(c.decoder_num_resblocks)

        def res(inputs: int, outputs: int) -> ResBlock:
            return ResBlock(CausalConv3d, inputs, outputs, norm)

        def connect(bands: int) -> nn.ModuleList:
            return nn.ModuleList(
                [*(res(energy, energy) for _ in range(c.connect_res_layer_num)), Still(energy, bands)]
            )

        self.energy = energy
        self.conv_in = CausalConv3d(c.latent_dim, 4 * width)
        self.mid = _middle(4 * width, 4 * width, 4 * width + energy, c.use_attention, norm)
        self.up2 = nn.ModuleList(
            [
                *(res(4 * width, 4 * width) for _ in blocks),
                TimeUp(CausalConv3d(4 * width, 4 * width), linear=c.t_interpolation == "trilinear"),
                res(4 * width, 4 * width + energy),
            ]
        )
        self.up1 = nn.ModuleList(
            [
                *(res((2 if i else 4) * width, 2 * width) for i in blocks),
                Up(FrameConv2d(2 * width, 2 * width, 3, 1, 1)),
                res(2 * width, 2 * width),
            ]
        )
        self.layer = nn.ModuleList([res(2 * width, width), res(width, width)])
        self.connect_l1, self.connect_l2 = connect(BANDS2), connect(BANDS3)
        self.norm_out = norm(width)
        self.conv_out = Still(width, BANDS3)
        self.haar_out, self.haar_l2 = InverseHaar3d(), InverseHaar3d()

    def forward(self, latents: Tensor, state: TimeState) -> Tensor:
        """[B, C, t, h, w] → [B, 3, T, H, W], as many frames as are known."""
        x = convolve(self.conv_in, channels_last(latents), state)
        x, flow = self._fork(run(self.mid, x, state))
        plain2 = self.haar_l2(run(self.connect_l2, flow, state), state)  # [B, 3, 2t-1, 2h, 2w]
        x, flow = self._fork(run(self.up2, x, state))
        bands1 = run(self.connect_l1, flow, state)  # [B, 12, as yet known of 2t-1, 2h, 2w]
        bands1[:, :PIXELS] += self._in_step(plain2, bands1.shape[2], state)
        x = run(self.layer, run(self.up1, x, state), state)
        bands = self.conv_out(self.norm_out.silu(x), state)  # [B, 24, 2t-1, 4h, 4w]
        bands[:, :PIXELS] += inverse_haar2d(bands1)
        return self.haar_out(bands, state)

    def _fork(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The channels that go on upwards, and those that become wavelet bands."""
        x, flow = x.split([x.shape[1] - self.energy, self.energy], dim=1)
        return channels_last(x), channels_last(flow)

    def _in_step(self, plain: Tensor, frames: int, state: TimeState) -> Tensor:
        """The next `frames` frames of the coarse picture, which may be ahead of the video; the rest waits."""
        past = state.recall(self)
        plain = plain if past is None else torch.cat([past, plain], dim=2)
        state.remember(self, plain[:, :, frames:])
        return plain[:, :, :frames]


class WfVae(nn.Module):
    """The network. Lengths and sides off the grid are floored; nobody pads here."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        config = WfConfig.of(spec.config)
        self.encoder, self.decoder = Encoder(config), Decoder(config)

    def encode(self, video: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Pixels [B, 3, T, H, W] in [-1, 1] → moments [B, 2C, t, h, w], mean then raw logvar."""
        yield self.encoder(video, state)

    def decode(self, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Latents [B, C, t, h, w] → pixels [B, 3, T, H, W], not clamped, as far as they are known."""
        yield self.decoder(latents, state)


def _middle(
    inputs: int, width: int, outputs: int, attended: bool, norm: Callable[[int], nn.Module]
) -> nn.ModuleList:
    """Residual block, attention if there is one, residual block."""
    first, last = ResBlock(CausalConv3d, inputs, width, norm), ResBlock(CausalConv3d, width, outputs, norm)
    return nn.ModuleList([first, *([Attention(width, norm)] if attended else []), last])


def channels_last(x: Tensor) -> Tensor:
    """The same clip, its channels next to each other in memory."""
    return x.contiguous(memory_format=torch.channels_last_3d)


def join(a: Tensor, b: Tensor) -> Tensor:
    """Two clips side by side along channels."""
    return torch.cat([a, b], dim=1)


def spec_of(config: Mapping[str, object]) -> ModelSpec:
    """Spec of a WF-VAE with this config.json. With group norms it cannot stream: then a clip is undivided."""
    c = WfConfig.of(config)
    return ModelSpec(
        name="wf-vae",
        family="wf_vae",
        grid=GRID,
        channels=c.latent_dim,
        plan=Plan(TimeRule(16), TimeRule(4)) if c.streams else Plan(TimeRule(0, 1), TimeRule(0, 1)),
        scale=c.scale,
        shift=c.shift,
        tiles=partial(even_tiles, space=GRID.space),
        licence="Apache-2.0",
        summary="wavelet video VAE" + (", streaming-exact" if c.streams else ""),
        config={"_class_name": "WFVAEModel", **config},
        horizon=horizon_of(c) if c.streams else None,
    )


def rename(key: str) -> str | None:
    """Checkpoint key → ours; the wavelets' constants, which some files carry, are known here."""
    return None if "wavelet" in key else key


def _published(name: str, config: Mapping[str, object], repo: str, file: str) -> ModelSpec:
    """Spec of a published model; the config that lies beside its weights has the last word."""
    config_file = f"{file.rpartition('/')[0]}/config.json".lstrip("/")
    return replace(spec_of(config), name=name, hub=hub_of(repo=repo, file=file, config=config_file))


FAMILY = Family(
    name="wf_vae",
    class_names=("WFVAEModel",),
    specs=(
        _published("wf-vae-s", RELEASED, "LanguageBind/Open-Sora-Plan-v1.3.0", "vae/merged.ckpt"),
        _published(
            "wf-vae-l",
            {**RELEASED, "base_channels": 192, "latent_dim": 16},
            "chestnutlzj/WF-VAE-L-16Chn",
            "diffusion_pytorch_model.safetensors",
        ),
    ),
    spec_of=spec_of,
    build=WfVae,
    rename=rename,
)
