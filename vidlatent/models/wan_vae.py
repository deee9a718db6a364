"""The video VAEs of Wan 2.1 and of Wan 2.2 (TI2V-5B), streaming-exact; Qwen-Image has that of Wan 2.1.

Norms look at one position alone, attention at one frame, and convolutions see zeros before the clip. The
first frame goes a way of its own: what halves time passes it on untouched; what doubles time does too, and
convolves the frames behind it as if it had never been. Wan 2.2 folds pixels two by two and has shortcuts
past whole stages. As in diffusers' AutoencoderKLWan and the authors' `wan/modules/vae.py` and `vae2_2.py`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain, product

import torch.nn.functional as F
from torch import Tensor, nn

from vidlatent.models.base import Family, Layout, ModelSpec
from vidlatent.models.causal import TimeState, joined, zeros
from vidlatent.models.clips import empty_clip
from vidlatent.models.convolution import Around, CausalConv3d, FrameConv2d
from vidlatent.models.norms import RmsNorm
from vidlatent.models.published import hub_of
from vidlatent.models.streaming import (
    Down,
    ResBlock,
    Up,
    convolve,
    grow,
    into,
    normalise_and_convolve,
    run,
    shrink,
)
from vidlatent.models.wan_config import (
    PIXELS,
    QWEN_IMAGE,
    WAN21,
    WAN22,
    Stage,
    WanConfig,
    config_of,
    rename,
    rename_among,
)
from vidlatent.windows import Plan, Tiling, TimeRule, even_tiles

Conv = partial(CausalConv3d, around=Around(lead=zeros))
Block = partial(ResBlock, Conv, norm=RmsNorm)


class HalveTime(nn.Module):
    """Convolve frames two by two in time; the clip's first frame passes untouched."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = CausalConv3d(width, width, (3, 1, 1), (2, 1, 1), 0, Around(lead=None))

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → [B, C, T', H, W]; all calls for T frames together give 1 + (T-1) // 2."""
        first = x[:, :, : 1 if x.shape[2] and state.begins(self) else 0]
        rest = convolve(self.conv, x, state)  # frame n, from 1 on, is made of frames 2n-2, 2n-1 and 2n
        return joined([first, rest], first.shape[2] + rest.shape[2])


class DoubleTime(nn.Module):
    """Convolve frames in time, each to two; the clip's first frame passes untouched, unseen by the rest."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = Conv(width, 2 * width, (3, 1, 1), 1, 0)

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → [B, C, T', H, W]; all calls for T frames together give 2T-1."""
        first = 1 if x.shape[2] and state.begins(self) else 0
        rest = x[:, :, first:]
        pairs = into(self.conv)(rest, state)
        out = empty_clip(x, first + 2 * rest.shape[2], *x.shape[3:])
        out[:, :, :first] = x[:, :, :first]
        out[:, :, first::2], out[:, :, first + 1 :: 2] = pairs.chunk(2, dim=1)
        return out


class AddMeans(nn.Module):
    """Wan 2.2's shortcut past a stage that shrinks: neighbours become channels, of which means are taken."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.time, self.space = stage.time, stage.space

    def forward(self, x: Tensor, y: Tensor, state: TimeState) -> Tensor:
        """Add to `y` [B, C', T', H', W'], in place, what the shortcut makes of `x` [B, C, T, H, W]."""
        t, s = self.time, self.space
        x = state.extend(self, x, t, t, zeros)[:, :, : y.shape[2] * t]
        x = x.unflatten(4, (-1, s)).unflatten(3, (-1, s)).unflatten(2, (-1, t))
        x = x.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)  # [B, C·t·s·s, T', H', W']
        return y.add_(x.unflatten(1, (y.shape[1], -1)).mean(2))


class AddCopies(nn.Module):
    """Wan 2.2's shortcut past a stage that grows: channels, repeated if there are too few, as neighbours.

    The first latent of a clip gives only the last of its frames.
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.time, self.space, self.outputs = stage.time, stage.space, stage.outputs
        self.neighbours = stage.time * stage.space**2
        self.repeats = stage.outputs * self.neighbours // stage.inputs

    def forward(self, x: Tensor, y: Tensor, state: TimeState) -> Tensor:
        """Add to `y` [B, C', T', H', W'], in place, what the shortcut makes of `x` [B, C, T, H, W]."""
        t, s = self.time, self.space
        missing = t - 1 if x.shape[2] and state.begins(self) else 0
        for n, (frame, row, column) in enumerate(product(range(t), range(s), range(s))):
            channels = x[:, self._sources(n)]
            if frame < missing:
                frame, channels = frame + t, channels[:, :, 1:]
            y[:, :, frame - missing :: t, row::s, column::s] += channels
        return y

    def _sources(self, n: int) -> slice | list[int]:
        """Which channels of `x` become neighbour `n`, in order: evenly spaced in the published models."""
        if self.neighbours % self.repeats == 0:
            return slice(n // self.repeats, None, self.neighbours // self.repeats)
        return [(self.neighbours * output + n) // self.repeats for output in range(self.outputs)]


class Level(nn.Module):
    """Residual blocks, then samplers of space and time; and the shortcut past them all, if there is one."""

    def __init__(
        self, blocks: Iterable[nn.Module], samplers: Mapping[str, nn.Module], shortcut: nn.Module | None
    ) -> None:
        super().__init__()
        self.blocks, self.samplers = nn.ModuleList(blocks), nn.ModuleDict(samplers)
        self.shortcut = shortcut

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → [B, C', T', H', W']."""
        y = run(self._layers(), x, state)
        return y if self.shortcut is None else self.shortcut(x, y, state)

    def steps(self) -> list[nn.Module]:
        """The level as steps one after the other: by layers, where no shortcut needs what came in."""
        return self._layers() if self.shortcut is None else [self]

    def _layers(self) -> list[nn.Module]:
        return [*self.blocks, *self.samplers.values()]


class Attention(nn.Module):
    """Attention over the positions of each frame, one head, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = RmsNorm(channels)
        self.to_qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → the same."""
        if not x.shape[2]:
            return x
        h = self.norm(x).permute(0, 2, 3, 4, 1)  # [B, T, H, W, C]
        tokens = self.to_qkv(h).flatten(2, 3).flatten(0, 1).unsqueeze(1)  # [B·T, 1, H·W, 3C]
        mixed = F.scaled_dot_product_attention(*tokens.chunk(3, dim=-1))
        return self.proj(mixed).view(h.shape).permute(0, 4, 1, 2, 3).add_(x)


class Encoder(nn.Module):
    """Pixels, folded where the model folds them, to moments."""

    def __init__(self, c: WanConfig) -> None:
        super().__init__()
        stages = list(c.encoder_stages())
        width = stages[-1].outputs
        self.conv_in = Conv(c.in_channels, c.base_dim)
        self.stages = nn.ModuleList(_shrinking(stage, c.is_residual) for stage in stages)
        self.middle = _middle(width)
        self.norm_out, self.conv_out = RmsNorm(width), Conv(width, 2 * c.z_dim)

    def forward(self, video: Tensor, state: TimeState) -> Tensor:
        """[B, C', T, H, W] → [B, 2C, t, h, w]."""
        first, *stages = (stage.steps() for stage in self.stages)
        x = shrink([into(self.conv_in), *first], video, state, self.conv_in.conv.out_channels)
        for steps in stages:
            x = shrink(steps, x, state)
        return normalise_and_convolve(self.norm_out, self.conv_out, run(self.middle, x, state), state)


class Decoder(nn.Module):
    """Latents to pixels, still folded where the model folds them."""

    def __init__(self, c: WanConfig) -> None:
        super().__init__()
        stages = list(c.decoder_stages())
        first, last = stages[0].inputs, stages[-1].outputs
        self.conv_in = Conv(c.z_dim, first)
        self.middle = _middle(first)
        self.stages = nn.ModuleList(_growing(stage, c.is_residual) for stage in stages)
        self.norm_out, self.conv_out = RmsNorm(last), Conv(last, c.in_channels)

    def forward(self, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
        """[B, C, t, h, w] → [B, C', T, H, W], in pieces."""
        stages = chain.from_iterable(stage.steps() for stage in self.stages)
        pieces = grow([into(self.conv_in), *self.middle, *stages], latents, state)
        return map(lambda x: normalise_and_convolve(self.norm_out, self.conv_out, x, state), pieces)


def _shrinking(stage: Stage, residual: bool) -> Level:
    samplers: dict[str, nn.Module] = {}
    if stage.space > 1:
        samplers["space"] = Down(FrameConv2d(stage.width, stage.outputs, 3, 2, 0))
    if stage.time > 1:
        samplers["time"] = HalveTime(stage.outputs)
    return Level(_blocks(stage), samplers, AddMeans(stage) if residual else None)


def _growing(stage: Stage, residual: bool) -> Level:
    samplers: dict[str, nn.Module] = {}
    if stage.time > 1:
        samplers["time"] = DoubleTime(stage.width)
    if stage.space > 1:
        samplers["space"] = Up(FrameConv2d(stage.width, stage.outputs, 3, 1, 1))
    shortcut = AddCopies(stage) if residual and samplers else None
    return Level(_blocks(stage), samplers, shortcut)


def _blocks(stage: Stage) -> list[nn.Module]:
    return [Block(stage.width if i else stage.inputs, stage.width) for i in range(stage.blocks)]


def _middle(width: int) -> nn.ModuleList:
    return nn.ModuleList([Block(width, width), Attention(width), Block(width, width)])


class WanVae(nn.Module):
    """The network. Frames that do not fill a latent are never looked at; nobody pads here."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        c = WanConfig.of(spec.config)
        self.patch = c.patch
        self.encoder, self.decoder = Encoder(c), Decoder(c)
        self.quant_conv = Conv(2 * c.z_dim, 2 * c.z_dim, 1, 1, 0)
        self.post_quant_conv = Conv(c.z_dim, c.z_dim, 1, 1, 0)

    def encode(self, video: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Pixels [B, 3, T, H, W] in [-1, 1] → moments [B, 2C, t, h, w], mean then raw logvar."""
        yield convolve(self.quant_conv, self.encoder(folded(video, self.patch), state), state)

    def decode(self, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Latents [B, C, t, h, w] → pixels [B, 3, T, H, W], not clamped."""
        pieces = self.decoder(convolve(self.post_quant_conv, latents, state), state)
        return map(partial(unfolded, patch=self.patch), pieces)


def folded(video: Tensor, patch: int) -> Tensor:
    """Pixels [B, C, T, H, W] → [B, C·patch², T, H/patch, W/patch]; a patch's columns follow one another."""
    if patch == 1:
        return video
    x = video.unflatten(4, (-1, patch)).unflatten(3, (-1, patch))  # [B, C, T, h, y, w, x]
    return x.permute(0, 2, 3, 5, 1, 6, 4).flatten(4).movedim(-1, 1)


def unfolded(x: Tensor, patch: int) -> Tensor:
    """What `folded` was made of."""
    if patch == 1:
        return x
    x = x.unflatten(1, (PIXELS, patch, patch))  # [B, C, x, y, T, h, w]
    return x.permute(0, 1, 4, 5, 3, 6, 2).flatten(5).flatten(3, 4)


def tilings(tile: int, overlap: float, space: int, patch: int) -> tuple[Tiling, Tiling]:
    """Tiles of pixels and of latents, as diffusers cuts them.

    With Wan 2.2 it counts on folded pixels where it encodes, so tiles are twice as large as asked for, but
    cuts every frame larger than asked for; and where it decodes it blends before it unfolds.
    """
    encode, decode = even_tiles(tile, overlap, space, slivers=True)
    grown = {key: patch * getattr(encode, key) for key in ("size", "step", "blend", "keep")}
    return replace(encode, **grown), replace(decode, grain=patch)


def spec_of(config: Mapping[str, object]) -> ModelSpec:
    """Spec of a Wan VAE with this config of diffusers', or these arguments of the authors'."""
    c = WanConfig.of(config)
    mean, deviation = c.mean_and_deviation
    return ModelSpec(
        name="wan-vae",
        family="wan_vae",
        grid=c.grid,
        channels=c.z_dim,
        plan=Plan(TimeRule(c.grid.time), TimeRule(1)),
        scale=tuple(1 / each for each in deviation),
        shift=mean,
        tiles=partial(tilings, space=c.grid.space, patch=c.patch),
        tile_overlap=0.25,
        licence="Apache-2.0",
        summary="video VAE, streaming-exact",
        config={**WAN21, **config},
        horizon=c.horizon,
    )


def _published(name: str, config: Mapping[str, object], repo: str, what: str) -> ModelSpec:
    """Spec of a published model; the config that lies beside its weights has the last word."""
    hub = hub_of(repo, "vae/diffusion_pytorch_model.safetensors", "vae/config.json")
    return replace(spec_of(config), name=name, hub=hub, summary=f"video VAE of {what}, streaming-exact")


FAMILY = Family(
    name="wan_vae",
    class_names=("AutoencoderKLWan", "AutoencoderKLQwenImage", "WanVAE_"),
    specs=(
        _published("wan-2.1", WAN21, "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "Wan 2.1, and of Wan 2.2 A14B"),
        _published("wan-2.2-5b", WAN22, "Wan-AI/Wan2.2-TI2V-5B-Diffusers", "Wan 2.2 TI2V-5B"),
        _published("qwen-image", QWEN_IMAGE, "Qwen/Qwen-Image", "Qwen-Image: Wan 2.1's network"),
    ),
    spec_of=spec_of,
    build=WanVae,
    rename=rename,
    layouts=(
        Layout(
            "authors",
            ("decoder.middle.0.residual.0.gamma", "conv1.weight"),
            None,
            config_of,
            rename_among,
        ),
        Layout(
            "diffusers",
            ("decoder.mid_block.attentions.0.to_qkv.weight", "quant_conv.weight"),
            None,
            config_of,
            rename_among,
        ),
    ),
)
