"""TAEHV: tiny autoencoders, each of which reads and writes the latents of a larger model.

All convolutions look at one frame. Time comes in through blocks that also see what they were given a frame
ago, pools that make one frame of two, and layers that make two of one; so streaming equals the whole clip.
A clip begins without a past, which is zeros, and ends with copies of its last frame until a latent is full.

Latents are those that a diffusion model of the larger one is fed, so scale and shift are in them already, and
they have no distribution. As in madebyollin/taehv at 1f14a56, whose pixels go from 0 to 1.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidlatent.grid import Grid
from vidlatent.models.base import Family, Layout, ModelSpec, StandIn
from vidlatent.models.causal import TimeState, in_parts, joined
from vidlatent.models.clips import as_clip, as_frames, empty_clip
from vidlatent.models.streaming import run
from vidlatent.models.subpixel import enlarge_frames
from vidlatent.models.tae_layout import SUPER_DECODER, TaeConfig, config_of, rename
from vidlatent.windows import Plan, TimeRule, even_tiles

WIDTH = 64  # channels of the encoder, at every level
WIDTHS = (256, 128, 64, 64)  # of the decoder, from latents to pixels
SUPER_WIDTHS = (512, 256, 128, 64)
LOGVAR = -30.0  # nothing is uncertain
QUICK_PIXELS = 854 * 480  # of the frames that go through a level at once: more would only take more memory


@dataclass(frozen=True)
class Growth:
    """How much the decoder makes of a latent: all frames or the last one, at full size or the latents' own.

    Less than all is for a glimpse: the same weights, fewer of them used.
    """

    all_frames: bool = True
    full_size: bool = True


ALL = Growth()


class MemoryBlock(nn.Module):
    """Residual block that sees each frame beside what it was given a frame before."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → the same."""
        return convolve_beside_past(self, x, state).add_(x).relu_()


class SuperMemoryBlock(nn.Module):
    """The same with a wide view: 7×7 pixels, channel by channel, then two layers at each position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(2 * channels, 2 * channels, 7, padding=3, groups=2 * channels, bias=False),
            nn.Conv2d(2 * channels, 4 * channels, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(4 * channels, channels, 1, bias=False),
        )

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → the same."""
        return convolve_beside_past(self, x, state).add_(x)


def convolve_beside_past(block: MemoryBlock | SuperMemoryBlock, x: Tensor, state: TimeState) -> Tensor:
    """Apply `block.conv` to each frame of [B, C, T, H, W] with the one before as more channels behind it."""
    channels = x.shape[1]
    seen = empty_clip(x, *x.shape[2:], 2 * channels)
    now, before = seen.split(channels, dim=1)
    now.copy_(x)
    before[:, :, 1:] = x[:, :, :-1]
    past = state.recall(block)
    before[:, :, :1] = 0 if past is None else past
    state.remember(block, x[:, :, -1:])
    return as_clip(block.conv(as_frames(seen)), len(x))


class Pool(nn.Module):
    """Make one frame of each `frames` successive ones, the earliest first among the channels."""

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.conv = nn.Conv2d(frames * channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C, T / frames, H, W]."""
        weights = self.conv.weight.chunk(self.frames, dim=1)
        parts = (as_frames(x[:, :, n :: self.frames]) for n in range(self.frames))
        pooled = F.conv2d(next(parts), weights[0])
        for part, weight in zip(parts, weights[1:], strict=True):
            pooled += F.conv2d(part, weight)
        return as_clip(pooled, len(x))


class Grow(nn.Module):
    """Make `frames` successive frames of one."""

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.conv = nn.Conv2d(channels, frames * channels, 1, bias=False)

    def forward(self, x: Tensor, all_frames: bool) -> Tensor:
        """[B, C, T, H, W] → [B, C, T · frames, H, W], or only the last of each `frames`."""
        weights = self.conv.weight.chunk(self.frames)
        grown = [
            as_clip(F.conv2d(as_frames(x), w), len(x)) for w in (weights if all_frames else weights[-1:])
        ]
        return grown[0] if len(grown) == 1 else torch.stack(grown, dim=3).flatten(2, 3)


class Fall(nn.Module):
    """A level of the encoder: fewer frames if `frames` is 2, half the size, three blocks."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.pool = Pool(WIDTH, frames)
        self.down = nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1, bias=False)
        self.blocks = nn.ModuleList(MemoryBlock(WIDTH) for _ in range(3))

    def shrink(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C, T / frames, H/2, W/2], odd sides rounded up."""
        return as_clip(self.down(as_frames(self.pool(x))), len(x))


class Encoder(nn.Module):
    """Pixels → latents."""

    def __init__(self, c: TaeConfig) -> None:
        super().__init__()
        self.patch, self.time = c.patch_size, c.grid.time
        self.conv_in = nn.Conv2d(c.colours, WIDTH, 3, padding=1)
        self.levels = nn.ModuleList(Fall(2 if pooled else 1) for pooled in c.encoder_time_downscale)
        self.conv_out = nn.Conv2d(WIDTH, c.latent_channels, 3, padding=1)

    def forward(self, video: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Whole groups of frames [B, 3, T, H, W] in [-1, 1] → latents [B, C, t, h, w], in pieces."""
        frames = self.time * max(1, QUICK_PIXELS // (self.time * video.shape[3] * video.shape[4]))
        yield from in_parts(self.latents_of, video.split(frames, dim=2), state)

    def latents_of(self, video: Tensor, state: TimeState) -> Tensor:
        """[B, 3, T, H, W] → [B, C, t, h, w]: widest near the pixels, which go through few at a time."""
        parts = video.split(self.levels[0].pool.frames, dim=2)
        x = joined(map(self.near_pixels, parts), len(parts))
        x = run(self.levels[0].blocks, x, state)
        for level in self.levels[1:]:
            x = run(level.blocks, level.shrink(x), state)
        return as_clip(self.conv_out(as_frames(x)), len(x))

    def near_pixels(self, video: Tensor) -> Tensor:
        """[B, 3, T, H, W] in [-1, 1] → the first level, before its blocks."""
        frames = F.pixel_unshuffle(as_frames(video).add(1).mul_(0.5), self.patch)
        x = self.conv_in(frames.contiguous(memory_format=torch.channels_last)).relu_()
        return self.levels[0].shrink(as_clip(x, len(video)))


class Rise(nn.Module):
    """A level of the decoder: three blocks, twice the size, and more frames if `frames` is 2."""

    def __init__(self, inputs: int, outputs: int, frames: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(MemoryBlock(inputs) for _ in range(3))
        self.grow = Grow(inputs, frames)
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: Tensor, state: TimeState, growth: Growth) -> Tensor:
        """[B, C, T, H, W] → [B, C', T', 2H, 2W], or the size that it was."""
        x = self.grow(
            run(self.blocks, x, state), growth.all_frames
        )  # while it is small: it sees single pixels
        if growth.full_size:
            return enlarge_frames(x, self.conv.weight, None)
        return as_clip(self.conv(as_frames(x)), len(x))


class SuperRise(nn.Module):
    """The same, with pixels folded out of channels."""

    def __init__(self, inputs: int, outputs: int, frames: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SuperMemoryBlock(inputs) for _ in range(3))
        self.conv = nn.Conv2d(inputs, 4 * outputs, 3, padding=1)
        self.grow = Grow(outputs, frames)

    def forward(self, x: Tensor, state: TimeState, growth: Growth) -> Tensor:
        """[B, C, T, H, W] → [B, C', T', 2H, 2W]: the size of latents alone would need other weights."""
        x = run(self.blocks, x, state)
        frames = F.pixel_shuffle(self.conv(as_frames(x)).relu_(), 2)
        x = as_clip(frames.contiguous(memory_format=torch.channels_last), len(x))
        return self.grow(x, growth.all_frames)


class Decoder(nn.Module):
    """Latents → pixels."""

    def __init__(self, c: TaeConfig) -> None:
        super().__init__()
        self.patch, self.large = c.patch_size, c.arch_variant == "super"
        widths, level = (SUPER_WIDTHS, SuperRise) if self.large else (WIDTHS, Rise)
        inner = {"kernel_size": 1, "bias": False} if self.large else {"kernel_size": 3, "padding": 1}
        self.conv_in = nn.Conv2d(c.latent_channels, widths[0], **inner)
        frames = (2 if grown else 1 for grown in c.decoder_time_upscale)
        self.levels = nn.ModuleList(map(level, widths[:-1], widths[1:], frames))
        self.conv_out = nn.Conv2d(widths[-1], c.colours, 3, padding=1)

    def forward(self, latents: Tensor, state: TimeState, growth: Growth = ALL) -> Iterator[Tensor]:
        """[B, C, t, h, w] → [B, 3, T, H, W] of each latent all frames, the clip's first too, in pieces."""
        frames = as_frames(latents)
        x = self.conv_in(frames) if self.large else self.conv_in(3 * torch.tanh(frames / 3)).relu_()
        yield from self.rise(0, as_clip(x, len(latents)), state, growth)

    def rise(self, n: int, x: Tensor, state: TimeState, growth: Growth) -> Iterator[Tensor]:
        """What level `n` and those after it make of [B, C, T, H, W].

        A part goes all the way up before the next one begins, so that little is held where frames are large.
        """
        if n == len(self.levels):
            yield self.pixels_of(x)
            return
        frames = max(1, QUICK_PIXELS // (4 * x.shape[3] * x.shape[4] * self.levels[n].grow.frames))
        level = partial(self.levels[n], growth=growth)
        for part in in_parts(level, x.split(frames, dim=2), state):
            yield from self.rise(n + 1, part, state, growth)

    def pixels_of(self, x: Tensor) -> Tensor:
        """The last level [B, C, T, H, W] → pixels [B, 3, T, H, W], -1 to 1, not clamped."""
        frames = self.conv_out(as_frames(x if self.large else x.relu_()))
        return as_clip(F.pixel_shuffle(frames, self.patch).mul_(2).sub_(1), len(x))


class TaeVae(nn.Module):
    """The network. Frames that fill no latent wait for more, and at the clip's end for copies of the last."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        config = TaeConfig.of(spec.config)
        self.encoder, self.decoder = Encoder(config), Decoder(config)

    def encode(self, video: Tensor, state: TimeState) -> Iterator[Tensor]:
        """[B, 3, T, H, W] in [-1, 1] → moments [B, 2C, t, h, w] of which nothing is uncertain, in pieces."""
        groups = self.whole_groups(video, state)
        if not groups.shape[2]:
            sides = [-(-side // self.spec.grid.space) for side in video.shape[3:]]
            yield video.new_empty(len(video), 2 * self.spec.channels, 0, *sides)
            return
        for mean in self.encoder(groups, state):
            yield torch.cat([mean, torch.full_like(mean, LOGVAR)], dim=1)

    def whole_groups(self, video: Tensor, state: TimeState) -> Tensor:
        """The frames [B, 3, T, H, W] that fill latents, beginning with those that the last call left over."""
        past = state.recall(self)
        video = video if past is None else torch.cat([past, video], dim=2)
        rest = video.shape[2] % self.spec.grid.time
        if not rest:
            return video
        if state.more:
            state.remember(self, video[:, :, -rest:])
            return video[:, :, :-rest]
        copies = video[:, :, -1:].expand(-1, -1, self.spec.grid.time - rest, -1, -1)
        return torch.cat([video, copies], dim=2)

    def decode(self, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
        """[B, C, t, h, w] → [B, 3, T, H, W], not clamped, in pieces; the first latent gives one frame."""
        if not latents.shape[2]:
            sides = [side * self.spec.grid.space for side in latents.shape[3:]]
            yield latents.new_empty(len(latents), 3, 0, *sides)
            return
        first = self.spec.grid.time - 1 if state.begins(self) else 0
        for piece in self.decoder(latents, state):
            if first < piece.shape[2]:
                yield piece[:, :, first:]
            first = max(0, first - piece.shape[2])


class Glimpse(nn.Module):
    """A tiny decoder that gives, of each latent, as much as `growth` says: a VideoVAE that only decodes."""

    def __init__(self, network: TaeVae, growth: Growth) -> None:
        super().__init__()
        own = network.spec
        time = own.grid.time if growth.all_frames else 1
        space = own.grid.space if growth.full_size else network.decoder.patch
        self.spec = replace(own, grid=Grid(time, space))
        self.decoder, self.growth = network.decoder, growth

    def decode(self, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
        """[B, C, t, h, w] → [B, 3, T, H, W], not clamped; the first latent gives as many frames as all do."""
        yield from self.decoder(latents, state, self.growth)


def spec_of(config: Mapping[str, object]) -> ModelSpec:
    """Spec of a network with this config."""
    c = TaeConfig.of(config)
    return ModelSpec(
        name=str(config.get("name", "tae")),
        family="tae",
        grid=c.grid,
        channels=c.latent_channels,
        plan=Plan(encode_time=TimeRule(2 * c.grid.time), decode_time=TimeRule(4)),
        tiles=partial(even_tiles, space=c.grid.space),
        licence="MIT",
        summary="tiny autoencoder for the latents of a larger model: streaming-exact",
        config={"_class_name": "TAEHV", **config, **asdict(c)},
        horizon=c.horizon,
    )


def _published(name: str, whose: str, models: tuple[str, ...], **config: object) -> ModelSpec:
    """Spec of a published network; `whose` latents it takes, and the names that those `models` have here."""
    summary = f"tiny, approximates {whose}: streaming-exact, for previews"
    return replace(spec_of(config), name=name, summary=summary, stands_in=StandIn(models))


PATCHED = {"patch_size": 2}
LTX = {
    "patch_size": 4,
    "latent_channels": 128,
    "encoder_time_downscale": (True, True, True),
    "decoder_time_upscale": (True, True, True),
}
COGVIDEOX = ("cogvideox-5b", "cogvideox-1.5", "cogvideox-2b")

FAMILY = Family(
    name="tae",
    class_names=("TAEHV",),
    specs=(
        _published("taehv", "HunyuanVideo", ("hunyuan-video",)),
        _published("taew2_1", "Wan 2.1, Wan 2.2 14B and Qwen-Image", ("wan-2.1", "qwen-image")),
        # The authors' example gives it CogVideoX's latents as its VAE knows them, the factor of 0.7 undone.
        replace(
            _published("taecvx", "CogVideoX", COGVIDEOX), scale=(0.7,), stands_in=StandIn(COGVIDEOX, raw=True)
        ),
        _published("taeos1_3", "Open-Sora 1.3", ("open-sora-1.3",)),
        _published("taew2_2", "Wan 2.2 5B", ("wan-2.2-5b",), latent_channels=48, **PATCHED),
        _published(
            "taew2_2_super",
            "Wan 2.2 5B",
            ("wan-2.2-5b",),
            latent_channels=48,
            arch_variant="super",
            **PATCHED,
        ),
        _published("taehv1_5", "HunyuanVideo 1.5", ("hunyuan-video-1.5",), latent_channels=32, **PATCHED),
        _published(
            "taehv1_5_super",
            "HunyuanVideo 1.5",
            ("hunyuan-video-1.5",),
            latent_channels=32,
            arch_variant="super",
            **PATCHED,
        ),
        _published("taeltx_2", "LTX-2", ("ltx-2",), **LTX),
        _published("taeltx2_3", "LTX-2.3", ("ltx-2.3",), **LTX),
    ),
    spec_of=spec_of,
    build=TaeVae,
    rename=rename,
    layouts=(
        Layout(
            "authors", ("encoder.2.conv.weight", "decoder.1.weight", "decoder.22.weight"), rename, config_of
        ),
        Layout(
            "authors, super",
            ("encoder.2.conv.weight", "decoder.1.conv.3.weight"),
            partial(rename, decoder=SUPER_DECODER),
            config_of,
        ),
    ),
)
