"""The tree of the Stable Diffusion autoencoder, which image VAEs and CV-VAE share.

What differs between them (2-D or 3-D convolutions, what surrounds a frame, attention over time)
comes as `Parts`. Names follow the diffusers keys; older checkpoints are renamed by `from_ldm`. To
an image VAE, every frame is a clip of its own.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidlatent.models.clips import as_clip, as_frames, empty_clip
from vidlatent.models.convolution import FrameConv2d, convolve_clip, due, owed
from vidlatent.models.norms import GroupNorm
from vidlatent.models.passes import add
from vidlatent.models.subpixel import enlarge_causally, enlarge_frames


@dataclass(frozen=True)
class Border:
    """What a convolution wants around its input, beyond the zeros it adds by itself.

    Copies of the first and last frame before and after; on the low and high side of rows and
    columns copies of the edge, or zeros.
    """

    before: int = 0
    after: int = 0
    low: int = 0
    high: int = 0
    zeros: bool = False

    def room(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """An unfilled clip for `x` with the border; and the view within it."""
        t, h, w = x.shape[2:]
        edges = self.low + self.high
        whole = empty_clip(x, self.before + t + self.after, h + edges, w + edges)
        low = self.low
        return whole, whole[:, :, self.before : self.before + t, low : low + h, low : low + w]

    def fill(self, whole: Tensor) -> Tensor:
        """Fill the border of a clip whose inside is written; returns it."""
        for axis in (3, 4):
            _fill_ends(whole, axis, self.low, self.high, self.zeros)
        _fill_ends(whole, 2, self.before, self.after, zeros=False)
        return whole

    def around(self, x: Tensor) -> Tensor:
        """`x` with its border; `x` itself where there is none."""
        if self == NO_BORDER:
            return x
        whole, inner = self.room(x)
        inner.copy_(x)
        return self.fill(whole)


NO_BORDER = Border()


def _fill_ends(whole: Tensor, axis: int, low: int, high: int, zeros: bool) -> None:
    """Fill the first `low` and last `high` slices along `axis`, with zeros or the slice next to them."""
    size = whole.shape[axis]
    for start, length, edge in ((0, low, low), (size - high, high, size - high - 1)):
        if length:
            end = whole.narrow(axis, start, length)
            end.zero_() if zeros else end.copy_(whole.narrow(axis, edge, 1).expand_as(end))


class VideoConv(nn.Conv3d):
    """3-D convolution of an input that stands in its `border` already; `zeros` at each end are added here."""

    owes = False  # as in CausalConv3d

    def __init__(
        self,
        inputs: int,
        outputs: int,
        border: Border,
        zeros: tuple[int, int, int] = (0, 0, 0),
        kernel: int = 3,
        stride: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, zeros)
        self.border = border

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] within its border → [B, C', T', H', W']."""
        return convolve_clip(x, self.weight, due(self, x), self.stride, self.padding)


class FrameConv(FrameConv2d):
    """2-D convolution of every frame by itself, among zeros unless it has a border."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, border: Border = NO_BORDER
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2 if border == NO_BORDER else 0)
        self.border = border


class ResBlock(nn.Module):
    """Residual block: twice norm, SiLU, convolution; a shortcut convolution where the width changes."""

    def __init__(self, inputs: int, outputs: int, parts: "Parts") -> None:
        super().__init__()
        self.norm1 = parts.norm(inputs)
        self.conv1 = parts.conv(inputs, outputs)
        self.norm2 = parts.norm(outputs)
        self.conv2 = parts.conv2(outputs, outputs)
        self.conv_shortcut = parts.shortcut(inputs, outputs) if inputs != outputs else None
        self.conv1.owes = self.conv2.owes = True

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C', T, H, W]; may overwrite `x` where the width changes, to save its room."""
        rest = x if self.conv_shortcut is None else self.conv_shortcut(x)
        h = norm_silu(x, self.norm1, self.conv1.border, overwrite=rest is not x)
        h = self.conv1(h)
        h = norm_silu(h, self.norm2, self.conv2.border, overwrite=True, bias=owed(self.conv1, h))
        h = self.conv2(h)
        return add(h, rest, owed(self.conv2, h))


class Attention(nn.Module):
    """Attention over the positions of each frame; then, if asked, over the frames of each position.

    One head, and one residual around everything.
    """

    def __init__(self, channels: int, norm: Callable[..., GroupNorm], over_time: bool = False) -> None:
        super().__init__()
        self.group_norm = norm(channels, per_frame=True)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])
        self.over_time = over_time
        if over_time:
            self.norm_t = nn.LayerNorm(channels)
            self.q_t, self.k_t, self.v_t, self.proj_out_t = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → the same."""
        frames = as_frames(self.group_norm(x))
        y = frames.flatten(2).transpose(1, 2)  # [B·T, H·W, C]
        y = attend(y, self.to_q, self.to_k, self.to_v, self.to_out[0])
        if self.over_time:
            y = y.unflatten(0, (len(x), -1)).transpose(1, 2)  # [B, H·W, T, C]
            y = attend(self.norm_t(y.flatten(0, 1)), self.q_t, self.k_t, self.v_t, self.proj_out_t)
            y = y.unflatten(0, (len(x), -1)).transpose(1, 2).flatten(0, 1)  # [B·T, H·W, C]
        y = y.transpose(1, 2).unflatten(2, x.shape[3:])
        return as_clip(y, len(x)).add_(x)


class Downsample(nn.Module):
    """A strided convolution."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C, T', H/2, W/2]."""
        return self.conv(self.conv.border.around(x))


class Upsample(nn.Module):
    """Nearest neighbours ×2 in space, then a convolution; twice as many channels out become twice the frames.

    Both are done as smaller convolutions of `x`, which stands in its border before it is enlarged: copies and
    zeros are the same there. The first half of those channels is the earlier frame of each pair. The very
    first frame of the result is dropped, since the first latent stands for one frame.
    """

    def __init__(self, conv: "VideoConv | FrameConv") -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C, T or 2T-1, 2H, 2W]."""
        conv = self.conv
        enlarge = enlarge_frames if isinstance(conv, FrameConv) else enlarge_causally
        y = enlarge(conv.border.around(x), conv.weight, conv.bias, conv.padding[-1])
        return y if y.shape[1] == x.shape[1] else interleave(y)


class Level(nn.Module):
    """All that happens at one resolution, and the step to the next."""

    def __init__(self, widths: list[int], parts: "Parts", attended: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            parts.block(inputs, outputs, parts) for inputs, outputs in pairwise(widths)
        )
        self.attentions = nn.ModuleList(parts.attention(w, parts.norm) for w in widths[1:] if attended)
        self.downsamplers = nn.ModuleList()
        self.upsamplers = nn.ModuleList()

    def steps(self) -> Iterator[nn.Module]:
        """The layers in the order in which they run."""
        for i, block in enumerate(self.resnets):
            yield block
            yield from self.attentions[i : i + 1]
        yield from self.downsamplers
        yield from self.upsamplers


class Middle(nn.Module):
    """The blocks between encoder or decoder levels and the latent end."""

    def __init__(self, width: int, parts: "Parts", attended: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(parts.block(width, width, parts) for _ in range(2))
        self.attentions = nn.ModuleList([parts.attention(width, parts.norm)] if attended else [])

    def steps(self) -> Iterator[nn.Module]:
        """The layers in the order in which they run."""
        return chain(self.resnets[:1], self.attentions, self.resnets[1:])


@dataclass(frozen=True)
class Parts:
    """The layers that one half of an autoencoder is made of, as makers: (inputs, outputs) → layer."""

    conv: Callable[[int, int], nn.Module]
    conv2: Callable[[int, int], nn.Module]
    shortcut: Callable[[int, int], nn.Module]
    sampler: Callable[[int, bool], nn.Module]  # (channels, in time as well?) → the step to the next level
    attention: Callable[[int, Callable[..., GroupNorm]], nn.Module]  # (channels, what makes its norm)
    groups: int
    eps: float
    block: Callable[[int, int, "Parts"], nn.Module] = ResBlock

    def norm(self, channels: int, per_frame: bool = False) -> GroupNorm:
        """Norm over the whole of each clip, or over each frame."""
        return GroupNorm(channels, self.groups, self.eps, per_frame)


@dataclass(frozen=True)
class Shape:
    """Widths and depths of the tree."""

    stem: int  # width of the first convolution of the encoder
    widths: tuple[int, ...]  # of the levels, finest first
    blocks: int  # residual blocks per level of the encoder; the decoder has one more
    pixels: int = 3
    latents: int = 4
    attended: frozenset[int] = frozenset()  # levels with an attention after every block, 0 the finest
    attended_middle: bool = True
    finest_first: bool = False  # whether the decoder's keys count levels from the finest, as in LDM
    down_in_time: frozenset[int] = frozenset()  # levels that the encoder leaves with half the frames
    up_in_time: frozenset[int] = frozenset()  # levels that the decoder leaves with twice the frames

    @property
    def halvings(self) -> int:
        """How often each side is halved."""
        return len(self.widths) - 1


class Encoder(nn.Module):
    """Pixels [B, 3, T, H, W] → moments [B, 2C, t, h, w]."""

    def __init__(self, shape: Shape, parts: Parts) -> None:
        super().__init__()
        self.conv_in = parts.conv(shape.pixels, shape.stem)
        self.down_blocks = nn.ModuleList()
        for i, width in enumerate(shape.widths):
            before = shape.widths[i - 1] if i else shape.stem
            level = Level([before] + [width] * shape.blocks, parts, attended=i in shape.attended)
            if i < shape.halvings:
                level.downsamplers.append(parts.sampler(width, i in shape.down_in_time))
            self.down_blocks.append(level)
        self.mid_block = Middle(shape.widths[-1], parts, shape.attended_middle)
        self.conv_norm_out = parts.norm(shape.widths[-1])
        self.conv_out = parts.conv(shape.widths[-1], 2 * shape.latents)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, T, H, W] → [B, 2C, t, h, w]."""
        x = self.conv_in(self.conv_in.border.around(channels_last(x)))
        for step in chain(*(level.steps() for level in self.down_blocks), self.mid_block.steps()):
            x = step(x)  # one layer at a time, so that nothing behind it is kept
        return self.conv_out(norm_silu(x, self.conv_norm_out, self.conv_out.border, overwrite=True))


class Decoder(nn.Module):
    """Latents [B, C, t, h, w] → pixels [B, 3, T, H, W]."""

    def __init__(self, shape: Shape, parts: Parts) -> None:
        super().__init__()
        coarsest = shape.widths[-1]
        self.conv_in = parts.conv(shape.latents, coarsest)
        self.mid_block = Middle(coarsest, parts, shape.attended_middle)
        levels = []
        for i in reversed(range(len(shape.widths))):
            before, width = shape.widths[min(i + 1, shape.halvings)], shape.widths[i]
            level = Level([before] + [width] * (shape.blocks + 1), parts, attended=i in shape.attended)
            if i:
                level.upsamplers.append(parts.sampler(width, i in shape.up_in_time))
            levels.append(level)
        self.finest_first = shape.finest_first
        self.up_blocks = nn.ModuleList(reversed(levels) if shape.finest_first else levels)
        self.conv_norm_out = parts.norm(shape.widths[0])
        self.conv_out = parts.conv(shape.widths[0], shape.pixels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, t, h, w] → [B, 3, T, H, W]."""
        x = self.conv_in(self.conv_in.border.around(channels_last(x)))
        levels = reversed(self.up_blocks) if self.finest_first else self.up_blocks
        for step in chain(self.mid_block.steps(), *(level.steps() for level in levels)):
            x = step(x)
        return self.conv_out(norm_silu(x, self.conv_norm_out, self.conv_out.border, overwrite=True))


def norm_silu(
    x: Tensor, norm: GroupNorm, border: Border, overwrite: bool, bias: Tensor | None = None
) -> Tensor:
    """SiLU of the norm of `x`, within the border a convolution wants, else over `x` if that may be.

    `bias` [C] is what `x` still lacks.
    """
    if border == NO_BORDER:
        return norm.silu_into(x, x if overwrite else empty_clip(x, *x.shape[2:]), bias)
    whole, inner = border.room(x)
    norm.silu_into(x, inner, bias)
    return border.fill(whole)


def attend(x: Tensor, q: nn.Module, k: nn.Module, v: nn.Module, out: nn.Module) -> Tensor:
    """Single-head self-attention over the middle axis of [N, length, C], projected by `out`."""
    heads = [layer(x)[:, None] for layer in (q, k, v)]
    return out(F.scaled_dot_product_attention(*heads)[:, 0])


def interleave(x: Tensor) -> Tensor:
    """[B, 2C, T, H, W], earlier frames then later ones → [B, C, 2T-1, H, W], without the very first."""
    earlier, later = x.chunk(2, dim=1)
    y = empty_clip(later, 2 * x.shape[2] - 1, *x.shape[3:])
    y[:, :, 0::2] = later
    y[:, :, 1::2] = earlier[:, :, 1:]
    return y


def channels_last(x: Tensor) -> Tensor:
    """The same [B, C, T, H, W], its channels next to each other in memory."""
    return x.contiguous(memory_format=torch.channels_last_3d)


_LDM = (  # the names of the original latent diffusion code → those of diffusers
    (r"\.(down|up)\.(\d+)\.block\.", r".\1_blocks.\2.resnets."),
    (r"\.(down|up)\.(\d+)\.attn\.", r".\1_blocks.\2.attentions."),
    (r"\.(down|up)\.(\d+)\.\1sample\.", r".\1_blocks.\2.\1samplers.0."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
    (r"\.norm_out\.", ".conv_norm_out."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"(\.attentions\.\d+)\.norm\.", r"\1.group_norm."),
    (r"(\.attentions\.\d+)\.([qkv])\.", r"\1.to_\2."),
    (r"(\.attentions\.\d+)\.proj_out\.", r"\1.to_out.0."),
)


def from_ldm(key: str) -> str:
    """A key of the original latent diffusion code by its diffusers name; decoder levels keep their number."""
    for pattern, name in _LDM:
        key = re.sub(pattern, name, key)
    return key
