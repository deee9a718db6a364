"""CogVideoX's VAE (arXiv 2408.06072): causal convolutions in batches of eight frames, two latents.

The convolutions remember the frames before a batch, but norms look at one batch at a time, so the batches
are part of the codec: see `TimeRule.batches`. Whether the first frame of a batch is averaged or doubled with
the others depends on whether their number is even, and only the first batch of a clip may be odd: see
`Grid.pairs`. The decoder's norms are guided by the latents. As in diffusers; the authors' own encoder takes
a clip undivided.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidlatent.errors import BadWeights
from vidlatent.grid import Grid
from vidlatent.models.base import Family, Layout, ModelSpec, Shapes, TileColumns
from vidlatent.models.causal import TimeState
from vidlatent.models.clips import empty_clip
from vidlatent.models.convolution import CausalConv3d, FrameConv2d
from vidlatent.models.kl import channels_last, from_ldm
from vidlatent.models.norms import GroupNorm, cache_blocks
from vidlatent.models.published import hub_of
from vidlatent.models.streaming import Norm, ResBlock, convolve, normalise_and_convolve, run
from vidlatent.models.subpixel import enlarge_frames
from vidlatent.windows import Plan, TimeRule, even_tiles

GRID = Grid(time=4, space=8, pairs=True)
LEVELS = 4  # of resolution; frames become fewer at the first two of the encoder
TIMED = 2
CLASS_NAME = "AutoencoderKLCogVideoX"


@dataclass(frozen=True)
class CogConfig:
    """What config.json says, with the defaults of diffusers' class."""

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 16
    block_out_channels: tuple[int, ...] = (128, 256, 256, 512)
    layers_per_block: int = 3
    norm_num_groups: int = 32
    sample_height: int = 480
    sample_width: int = 720
    scaling_factor: float = 1.15258426
    shift_factor: float | None = None

    @classmethod
    def of(cls, config: Mapping[str, object]) -> "CogConfig":
        """From a parsed config.json; raises BadWeights where it cannot be built."""
        for key, good in SUPPORTED.items():
            if config.get(key, good) != good:
                raise BadWeights(
                    f"config of {CLASS_NAME}: {key} = {config[key]!r} is not supported",
                    f"supported: {good!r}",
                )
        known = {f.name for f in fields(cls)}
        made = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k in known})
        if len(made.block_out_channels) != LEVELS:
            raise BadWeights(
                f"config of {CLASS_NAME}: block_out_channels: expected {LEVELS} widths, "
                f"got {len(made.block_out_channels)}"
            )
        return made


SUPPORTED = {
    "act_fn": "silu",
    "norm_eps": 1e-6,
    "temporal_compression_ratio": GRID.time,
    "latents_mean": None,
    "latents_std": None,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "down_block_types": ["CogVideoXDownBlock3D"] * LEVELS,
    "up_block_types": ["CogVideoXUpBlock3D"] * LEVELS,
}


class GuidedNorm(nn.Module):
    """Group norm over a batch of frames, then a gain and a shift at every place, made of the latents there.

    The latents reach the frames by repetition, and the convolutions that make gain and shift look at one
    position each. So they run at the size of the latents, and what they give is repeated.
    """

    def __init__(self, channels: int, groups: int, latents: int) -> None:
        super().__init__()
        self.norm_layer = GroupNorm(channels, groups)
        self.conv_y, self.conv_b = (CausalConv3d(latents, channels, 1, 1, 0) for _ in range(2))

    def silu_into(self, x: Tensor, out: Tensor, latents: Tensor) -> Tensor:
        """Normalise [B, C, T, H, W] as `latents` [B, c, t, h, w] say, and apply x·sigmoid(x), into `out`."""
        guides = (channels_behind(conv.ready(latents)) for conv in (self.conv_y, self.conv_b))
        samples = zip(channels_behind(x), channels_behind(out), *guides, strict=True)
        for source, target, gain, shift in samples:
            scale, center = self.norm_layer.affine(source)
            gain, shift = gain * scale, gain * center + shift
            cells = (in_cells(frames, *latents.shape[3:]) for frames in (source, target))
            maps = (over_cells(values, *source.shape[:3]) for values in (gain, shift))
            for rows, place, times, plus in zip(*map(cache_blocks, (*cells, *maps)), strict=True):
                F.silu(torch.addcmul(plus, rows, times, out=place), inplace=True)
        return out


def channels_behind(x: Tensor) -> Tensor:
    """Clip [B, C, T, H, W] → [B, T, H, W, C], as it lies in memory."""
    return x.permute(0, 2, 3, 4, 1)


def in_cells(frames: Tensor, height: int, width: int) -> Tensor:
    """Frames [T, H, W, C] by the latent that each pixel belongs to: [T, h, H/h, w, W/w, C]."""
    return frames.unflatten(2, (width, -1)).unflatten(1, (height, -1))


def over_cells(values: Tensor, frames: int, height: int, width: int) -> Tensor:
    """Values [t, h, w, C] at the latents, repeated over T frames of H by W as `in_cells` has them.

    A first frame that is alone has the first latent, the others share theirs evenly. Repetition takes no
    memory.
    """
    t, h, w, channels = values.shape
    alone = frames % 2 if frames > 1 else 0
    shared = [alone + n * (t - alone) // (frames - alone) for n in range(frames - alone)]
    latents = torch.tensor([*range(alone), *shared], device=values.device)
    cells = values.index_select(0, latents)[:, :, None, :, None]
    return cells.expand(frames, h, height // h, w, width // w, channels)


class Down(nn.Module):
    """Halve the frame by a strided convolution with zeros right and below; before, average pairs of frames.

    Of an odd number the first frame stays as it is.
    """

    def __init__(self, width: int, time: bool) -> None:
        super().__init__()
        self.conv, self.time = FrameConv2d(width, width, 3, 2, 0), time

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C, T or (T+1)/2, H/2, W/2], rounded down."""
        frames, height, width = x.shape[2:]
        kept = frames % 2 if self.time else frames
        room = empty_clip(x, kept + (frames - kept) // 2, height + 1, width + 1)
        room[..., height:, :] = 0
        room[..., width:] = 0
        place = room[..., :height, :width]
        place[:, :, :kept] = x[:, :, :kept]
        torch.add(x[:, :, kept::2], x[:, :, kept + 1 :: 2], out=place[:, :, kept:]).mul_(0.5)
        return self.conv.ready(room)


class Up(nn.Module):
    """Double the frame by nearest neighbours and convolve it; then show it twice.

    Of an odd number the first frame is shown once. The convolution sees one frame at a time, so it is run
    before frames are doubled.
    """

    def __init__(self, width: int, time: bool) -> None:
        super().__init__()
        self.conv, self.time = FrameConv2d(width, width, 3, 1, 1), time

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C, T, 2T or 2T-1, 2H, 2W]."""
        if not self.time:
            return enlarge_frames(x, self.conv.weight, self.conv.bias)
        frames, (height, width), channels = x.shape[2], x.shape[3:], self.conv.out_channels
        once = frames % 2
        out = empty_clip(x, 2 * frames - once, 2 * height, 2 * width, channels)
        if once:
            enlarge_frames(x[:, :, :1], self.conv.weight, self.conv.bias, out=out[:, :, :1])
        if frames > once:
            twice = out[:, :, once::2]
            enlarge_frames(x[:, :, once:], self.conv.weight, self.conv.bias, out=twice)
            out[:, :, once + 1 :: 2] = twice
        return out


class Level(nn.Module):
    """The residual blocks of one resolution, and the step to the next one if there is one."""

    def __init__(
        self, widths: tuple[int, int], blocks: int, norm: Norm, step: nn.Module | None = None
    ) -> None:
        super().__init__()
        first, width = widths
        self.resnets = nn.ModuleList(
            ResBlock(CausalConv3d, width if i else first, width, norm) for i in range(blocks)
        )
        self.step = step

    def forward(self, x: Tensor, state: TimeState, *guides: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C', T', H', W']; `guides` are what the norms are told besides."""
        for block in self.resnets:
            x = block(x, state, *guides)
        return x if self.step is None else self.step(x)


class Encoder(nn.Module):
    """Pixels → moments."""

    def __init__(self, c: CogConfig) -> None:
        super().__init__()
        widths, norm = c.block_out_channels, partial(GroupNorm, groups=c.norm_num_groups)
        self.conv_in = CausalConv3d(c.in_channels, widths[0])
        self.down_blocks = nn.ModuleList(
            Level(pair, c.layers_per_block, norm, _step(Down, pair[1], i))
            for i, pair in enumerate(pairwise((widths[0], *widths)))
        )
        self.mid_block = Level((widths[-1], widths[-1]), 2, norm)
        self.norm_out = norm(widths[-1])
        self.conv_out = CausalConv3d(widths[-1], 2 * c.latent_channels)

    def forward(self, video: Tensor, state: TimeState) -> Tensor:
        """[B, 3, T, H, W] → [B, 2C, t, h, w]."""
        x = convolve(self.conv_in, channels_last(video), state)
        x = self.mid_block(run(self.down_blocks, x, state), state)
        return normalise_and_convolve(self.norm_out, self.conv_out, x, state)


class Decoder(nn.Module):
    """Latents → pixels."""

    def __init__(self, c: CogConfig) -> None:
        super().__init__()
        widths = c.block_out_channels[::-1]
        norm = partial(GuidedNorm, groups=c.norm_num_groups, latents=c.latent_channels)
        self.conv_in = CausalConv3d(c.latent_channels, widths[0])
        self.mid_block = Level((widths[0], widths[0]), 2, norm)
        self.up_blocks = nn.ModuleList(
            Level(pair, c.layers_per_block + 1, norm, _step(Up, pair[1], i))
            for i, pair in enumerate(pairwise((widths[0], *widths)))
        )
        self.norm_out = norm(widths[-1])
        self.conv_out = CausalConv3d(widths[-1], c.out_channels)

    def forward(self, latents: Tensor, state: TimeState) -> Tensor:
        """[B, C, t, h, w] → [B, 3, T, H, W]."""
        latents = channels_last(latents)
        x = self.mid_block(convolve(self.conv_in, latents, state), state, latents)
        for level in self.up_blocks:
            x = level(x, state, latents)
        return normalise_and_convolve(self.norm_out, self.conv_out, x, state, latents)


def _step(step: type[Down | Up], width: int, level: int) -> nn.Module | None:
    """What leads from a level to the next one; the last level has no next."""
    return step(width, time=level < TIMED) if level + 1 < LEVELS else None


class CogVideoXVae(nn.Module):
    """The network; a call is one batch. Sides off the grid are floored; nobody pads here."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        config = CogConfig.of(spec.config)
        self.encoder, self.decoder = Encoder(config), Decoder(config)

    def encode(self, video: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Pixels [B, 3, T, H, W] in [-1, 1] → moments [B, 2C, t, h, w], mean then raw logvar."""
        yield self.encoder(video, state)

    def decode(self, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Latents [B, C, t, h, w] → pixels [B, 3, T, H, W], not clamped."""
        yield self.decoder(latents, state)


def spec_of(config: Mapping[str, object]) -> ModelSpec:
    """Spec of a CogVideoX VAE with this config.json. `sample_*` say how large a tile is: a half of each."""
    c = CogConfig.of(config)
    return ModelSpec(
        name="cogvideox",
        family="cogvideox_vae",
        grid=GRID,
        channels=c.latent_channels,
        plan=Plan(TimeRule(8, batches=True), TimeRule(2, batches=True)),
        scale=(c.scaling_factor,),
        shift=(c.shift_factor or 0.0,),
        tiles=partial(even_tiles, space=GRID.space, slivers=True),
        tile_overlap=1 / 6,
        tile_columns=TileColumns((c.sample_width // 2) / (c.sample_height // 2), 1 / 5),
        summary="video VAE that runs in batches of eight frames",
        config={"_class_name": CLASS_NAME, **config},
    )


def from_diffusers(key: str) -> str:
    """A key of diffusers' layout → ours."""
    key = re.sub(r"\.(down|up)samplers\.0\.", ".step.", key)
    return key.replace(".conv_shortcut.", ".nin_shortcut.conv.")


def from_authors(key: str) -> str | None:
    """A key of the authors' layout → ours: their decoder counts levels from the last, and the loss goes."""
    if key.startswith("loss."):
        return None
    key = from_ldm(key).replace(".conv_norm_out.", ".norm_out.")
    key = re.sub(r"(\.up_blocks\.)(\d+)", lambda found: f"{found[1]}{LEVELS - 1 - int(found[2])}", key)
    return from_diffusers(key)


def config_from(shapes: Shapes, rename: Callable[[str], str | None]) -> dict[str, object]:
    """What a file's names and shapes say of the network, as a config; its scale they do not say."""
    ours = {rename(key): shape for key, shape in shapes.items()}
    first = [f"encoder.down_blocks.{level}.resnets.0.conv1.conv.weight" for level in range(LEVELS)]
    blocks = [
        key
        for key in ours
        if re.fullmatch(r"encoder\.down_blocks\.0\.resnets\.\d+\.conv1\.conv\.weight", key or "")
    ]
    return {
        "in_channels": ours["encoder.conv_in.conv.weight"][1],
        "out_channels": ours["decoder.conv_out.conv.weight"][0],
        "latent_channels": ours["decoder.conv_in.conv.weight"][1],
        "block_out_channels": [ours[key][0] for key in first],
        "layers_per_block": len(blocks),
    }


def _layout(name: str, mark: str, rename: Callable[[str], str | None]) -> Layout:
    """A layout that is told by its name for a guided norm, which no other network has."""
    return Layout(name, (mark,), rename, partial(config_from, rename=rename))


def _published(name: str, folder: str, config: Mapping[str, object], licence: str, summary: str) -> ModelSpec:
    """Spec of a published model; the config that lies beside its weights has the last word."""
    hub = hub_of(f"zai-org/{folder}", "vae/diffusion_pytorch_model.safetensors", "vae/config.json")
    return replace(spec_of(config), name=name, licence=licence, summary=summary, hub=hub)


LICENCE = "CogVideoX License (commercial use once registered, no military use)"

FAMILY = Family(
    name="cogvideox_vae",
    class_names=(CLASS_NAME,),
    specs=(
        _published("cogvideox-2b", "CogVideoX-2b", {}, "Apache-2.0", "the video VAE of CogVideoX-2B"),
        _published(
            "cogvideox-5b",
            "CogVideoX-5b",
            {"scaling_factor": 0.7},
            LICENCE,
            "the video VAE of CogVideoX-5B",
        ),
        _published(
            "cogvideox-1.5",
            "CogVideoX1.5-5B",
            {"scaling_factor": 0.7, "invert_scale_latents": True},
            LICENCE,
            "the video VAE of CogVideoX 1.5, whose image-to-video divides image latents by the scale",
        ),
    ),
    spec_of=spec_of,
    build=CogVideoXVae,
    rename=from_diffusers,
    layouts=(
        _layout("diffusers", "decoder.mid_block.resnets.0.norm1.conv_y.conv.weight", from_diffusers),
        _layout("authors", "decoder.mid.block_1.norm1.conv_y.conv.weight", from_authors),
    ),
)
