"""Convolutions of clips and of frames, each as it takes the least time where it runs."""

from dataclasses import dataclass
from math import prod
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidlatent.models.arithmetic import is_cpu, quickest
from vidlatent.models.causal import Lead, copies_of_the_first
from vidlatent.models.clips import as_clip, as_frames, empty_clip, repeat_first
from vidlatent.models.passes import leaves_bias

_WIDE, _WIDEST = 192, 384  # channels that are many for a convolution; with 128 it is as fast either way
_MANY = 2048  # positions that are many for it; with fewer one kernel in three dimensions is as fast or faster
_PART_BYTES = 1 << 25  # of a convolution whose planes are added up


def layout_of(weight: Tensor, device: torch.device | str) -> torch.memory_format:
    """The layout in which the weight of a convolution [C', C, (T,) H, W] is kept on that device."""
    if weight.dim() != 5:
        return torch.channels_last if weight.dim() == 4 else torch.contiguous_format
    channels_first = torch.device(device).type == "cpu" and weight.shape[1] >= _WIDEST and weight.shape[2] > 1
    return torch.contiguous_format if channels_first else torch.channels_last_3d


def convolve_frames(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride=1, padding=0) -> Tensor:
    """`F.conv2d` of frames [N, C, H, W], channels last, multiplied in the dtype that is the quickest.

    In another dtype than their own a few frames at a time are converted. There a kernel of one position is a
    product of matrices, which takes half the time of a convolution.
    """
    dtype = quickest(x.dtype, x.device)
    if dtype == x.dtype:
        return F.conv2d(x, weight, bias, stride, padding)
    weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)

    def convolve(part: Tensor) -> Tensor:
        part = part.to(dtype)
        if part.is_contiguous(memory_format=torch.channels_last) and _is_mix(weight, stride, padding):
            y = F.linear(part.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
        else:
            y = F.conv2d(part, weight, bias, stride, padding)
        return y.to(x.dtype)

    channels = max(weight.shape[:2])
    parts = x.split(max(1, _PART_BYTES // (channels * x.shape[2:].numel() * dtype.itemsize)))
    done = [convolve(part) for part in parts]
    return done[0] if len(done) == 1 else torch.cat(done)


def _is_mix(weight: Tensor, stride: int | tuple[int, ...], padding: int | tuple[int, ...]) -> bool:
    """Whether a kernel mixes the channels of each position and does nothing else."""
    return weight.shape[2:].numel() == 1 and stride in (1, (1, 1)) and padding in (0, (0, 0))


def convolve_clip(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride=(1, 1, 1), padding=(0, 0, 0)
) -> Tensor:
    """`F.conv3d` of a clip [B, C, T, H, W], channels last, multiplied in the dtype that is the quickest.

    In another dtype than its own a few frames at a time are converted, so that it is not there twice. A clip
    may have more channels than `weight`, if they are zeros: see `passes.fed_channels`.
    """
    if x.shape[1] > weight.shape[1]:
        weight = F.pad(weight, (0, 0) * 3 + (0, x.shape[1] - weight.shape[1]))
        weight = weight.contiguous(memory_format=torch.channels_last_3d)
    dtype = quickest(x.dtype, x.device)
    if dtype == x.dtype:
        return _convolve(x, weight, bias, stride, padding)
    weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    depth, step = weight.shape[2], stride[0]
    frames = (x.shape[2] + 2 * padding[0] - depth) // step + 1
    channels = max(weight.shape[:2])
    each = max(1, _PART_BYTES // (channels * x[0, 0, 0].numel() * dtype.itemsize))
    if padding[0] or frames <= each:
        return _convolve(x.to(dtype), weight, bias, stride, padding).to(x.dtype)
    parts = []
    for start in range(0, frames, each):
        stop = min(start + each, frames)
        seen = x[:, :, start * step : (stop - 1) * step + depth].to(dtype)
        parts.append(_convolve(seen, weight, bias, stride, padding).to(x.dtype))
    return torch.cat(parts, dim=2)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride, padding) -> Tensor:
    """`F.conv3d` of a clip [B, C, T, H, W], channels last; on a CPU, what takes the least time there.

    With half as many positions as outputs per position, or fewer, reading the weights is the work: then one
    product of matrices takes down to a third of the time. The kernel in three dimensions for channels last is
    slow with many channels, and adds up thousands of products in a row, which costs digits. The one for
    channels first does neither. With fewer channels and many positions it is quicker still to convolve frames
    with each plane of the kernel, and to add up. Planes of 2×2, see `subpixel`, hold too few products for
    either to be worth its copies.
    """
    channels, depth, *plane = weight.shape[1:]
    if not is_cpu(x.device) or depth == 1 or padding[0]:
        return F.conv3d(x, weight, bias, stride, padding)
    sizes = zip(x.shape[2:], weight.shape[2:], stride, padding, strict=True)
    sides = [(size + 2 * pad - kernel) // step + 1 for size, kernel, step, pad in sizes]
    positions = len(x) * prod(sides)
    if 2 * positions <= len(weight):
        return _as_product(x, weight, bias, stride, padding, sides)
    if channels < _WIDE or plane == [2, 2]:
        return F.conv3d(x, weight, bias, stride, padding)
    if channels >= _WIDEST or len(x) > 1:
        out = F.conv3d(x.contiguous(), weight.contiguous(), bias, stride, padding)
        return out.contiguous(memory_format=torch.channels_last_3d)
    if positions < _MANY:
        return F.conv3d(x, weight, bias, stride, padding)
    return _convolve_planes(x, weight, bias, stride, padding[1:])


def _as_product(x: Tensor, weight: Tensor, bias: Tensor | None, stride, padding, sides: list[int]) -> Tensor:
    """The convolution of a clip as one product of matrices: what each position sees, and the weights."""
    (batch, channels), (_, down, across) = x.shape[:2], padding
    seen = F.pad(x.permute(0, 2, 3, 4, 1), (0, 0, across, across, down, down)).contiguous()
    each, *steps, _ = seen.stride()
    moved = [step * by for step, by in zip(steps, stride, strict=True)]
    kernel, inner = [channels, *weight.shape[2:]], [1, *steps]
    if not weight.is_contiguous():  # channels last: what a position sees goes in the order of the weight
        weight, kernel, inner = weight.permute(0, 2, 3, 4, 1), [*kernel[1:], channels], [*steps, 1]
    patches = seen.as_strided((batch, *sides, *kernel), (each, *moved, *inner)).reshape(
        batch * prod(sides), -1
    )
    weights = weight.reshape(len(weight), -1).t()
    products = patches @ weights if bias is None else torch.addmm(bias, patches, weights)
    return products.view(batch, *sides, -1).movedim(-1, 1)


def _convolve_planes(x: Tensor, weight: Tensor, bias: Tensor | None, stride, padding) -> Tensor:
    """Convolve a clip [1, C, T, H, W] plane by plane of the kernel, a few frames at once."""
    depth, step = weight.shape[2], stride[0]
    whole = None
    frames = (x.shape[2] - depth) // step + 1
    each = max(1, _PART_BYTES // (len(weight) * x[0, 0, 0].numel() * x.element_size()))
    for start in range(0, frames, each):
        stop = min(start + each, frames)
        part = None
        for k, plane in enumerate(weight.unbind(2)):
            seen = as_frames(x[:, :, start * step + k : (stop - 1) * step + k + 1 : step])
            y = F.conv2d(seen, plane, None if k else bias, stride[1:], padding)
            part = y if part is None else part.add_(y)
        part = as_clip(part, 1)
        if stop - start == frames:
            return part
        if whole is None:
            whole = empty_clip(part, frames, *part.shape[3:])
        whole[:, :, start:stop] = part
    return whole


class Owing(Protocol):
    """A convolution whose bias its owner may add."""

    owes: bool

    @property
    def bias(self) -> Tensor | None:
        """What it adds to each channel [C']."""
        ...


def owed(conv: Owing, x: Tensor) -> Tensor | None:
    """The bias [C'] that what a convolution gave still lacks, None: nothing; `x` is on the same device."""
    return conv.bias if conv.owes and leaves_bias(x) else None


def due(conv: Owing, x: Tensor) -> Tensor | None:
    """The bias [C'] that a convolution of `x` adds at once, if it has any."""
    return None if conv.owes and leaves_bias(x) else conv.bias


@dataclass(frozen=True)
class Around:
    """What a convolution sees where a clip has nothing: before it, and around each of its frames."""

    lead: Lead | None = copies_of_the_first  # None: nothing, and a strided kernel begins with the first frame
    edge: bool = False  # copies of the outermost pixels instead of zeros
    mirror: bool = False  # or what lies behind them, as in a mirror that stands on them


class CausalConv3d(nn.Module):
    """3-D convolution that sees no later frame; `around` says what it sees beyond the clip's ends.

    In space there are `pad` pixels of that on each side.
    """

    ahead = 0  # later frames that it sees
    owes = False  # whether its owner adds the bias where that costs less: see `owed`

    def __init__(
        self, inputs: int, outputs: int, kernel=3, stride=1, pad: int = 1, around: Around = Around()
    ) -> None:
        super().__init__()
        self.mirror = around.mirror
        self.border = pad if around.edge or around.mirror else 0  # pixels around each frame, written before
        zeros = pad - self.border
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, padding=(0, zeros, zeros))
        self.front = self.conv.kernel_size[0] - 1
        self.lead = around.lead
        self.plane = self.conv.stride[1:], self.conv.padding[1:]

    @property
    def looks_back(self) -> bool:
        """Whether it makes one frame of each, of it and of those before it."""
        return self.front > 0 and self.ahead == 0 and max(self.conv.stride) == 1

    @property
    def bias(self) -> Tensor | None:
        """What it adds to each channel [C']."""
        return self.conv.bias

    def room(self, x: Tensor, front: int | None = None, channels: int | None = None) -> tuple[Tensor, Tensor]:
        """Memory for a clip like `x` [B, C, T, H, W] and all around it; and the place in it for the clip.

        Once the clip is written to its place, `surround` and `TimeState.precede` fill in the rest: `front`
        frames before it, as many as the kernel needs unless told otherwise. `channels` beyond C are zeros.
        """
        height, width = x.shape[3:]
        front = self.front if front is None else front
        room = empty_clip(x, front + x.shape[2], height + 2 * self.border, width + 2 * self.border, channels)
        room[:, x.shape[1] :] = 0
        inner = slice(self.border, self.border + height), slice(self.border, self.border + width)
        return room, room[:, : x.shape[1], front:, inner[0], inner[1]]

    def surround(self, room: Tensor, left: bool = True, right: bool = True) -> None:
        """Fill the pixels around each frame of `room`, where the convolution wants them written before.

        `left` and `right` say whether there are such pixels beside its first column, and its last.
        """
        n = self.border
        rows, columns = room.transpose(-1, -2), room
        for frames, low, high in ((rows, True, True), (columns, left, right)) if n else ():
            for i in range(n):
                near = n + 1 + i if self.mirror else n
                if low:
                    frames[..., n - 1 - i] = frames[..., near]
                if high:
                    frames[..., i - n] = frames[..., -near - 1]

    def ready(self, x: Tensor) -> Tensor:
        """Convolve a clip [B, C, front + T, H, W] that already begins with its `front` extra frames.

        And that has its borders, where the convolution wants copies of the outermost pixels.
        """
        conv, bias = self.conv, due(self, x)
        if self.front or conv.stride[0] > 1:
            return convolve_clip(x, conv.weight, bias, conv.stride, conv.padding)
        # frame by frame it is the same, and up to six times as fast (kernel 1, on a CPU)
        return as_clip(convolve_frames(as_frames(x), conv.weight.squeeze(2), bias, *self.plane), len(x))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C', T', H', W']: the whole clip in one call."""
        return self.ready(repeat_first(x, self.front))


class FrameConv2d(nn.Conv2d):
    """2-D convolution of every frame by itself."""

    front = 0
    owes = False  # as in CausalConv3d

    def ready(self, x: Tensor) -> Tensor:
        """The same as calling it: there are no extra frames."""
        return self(x)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C', T, H', W']."""
        frames = convolve_frames(as_frames(x), self.weight, due(self, x), self.stride, self.padding)
        return as_clip(frames, len(x))
