"""Layers that architectures share, for clips [B, C, T, H, W] that lie in memory as [B, T, H, W, C].

That layout makes a fold of frames into the batch free, lets a norm write behind room left for a
causal convolution's leading frames, and is the one convolutions run fastest in on a CPU.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidlatent.models.causal import Lead, copies_of_the_first

_BLOCK_BYTES = 1 << 20  # what several passes over the same rows can keep in a core's cache
_SCORES = 1 << 24  # of an attention that are held at once
_WIDE, _WIDEST = 192, 384  # channels that are many for a convolution; with 128 it is as fast either way
_MANY = 2048  # positions that are many for it; with fewer one kernel in three dimensions is as fast or faster
_PART_BYTES = 1 << 25  # of a convolution whose planes are added up


def empty_clip(like: Tensor, frames: int, height: int, width: int, channels: int | None = None) -> Tensor:
    """Uninitialised clip [B, C, frames, height, width], channels last, of the kind of `like`."""
    return like.new_empty(like.shape[0], frames, height, width, channels or like.shape[1]).movedim(-1, 1)


def as_frames(x: Tensor) -> Tensor:
    """Clip [B, C, T, H, W] → frames [B·T, C, H, W]."""
    return x.transpose(1, 2).flatten(0, 1)


def as_clip(frames: Tensor, batch: int) -> Tensor:
    """Frames [B·T, C, H, W] → clip [B, C, T, H, W]."""
    return frames.unflatten(0, (batch, -1)).transpose(1, 2)


def fold_cubes(x: Tensor, frames: int, side: int) -> Tensor:
    """[B, C, T, H, W] → [B·T/frames, frames·side·side·C, H/side, W/side], channels-last; C varies fastest."""
    x = x.unflatten(4, (-1, side)).unflatten(3, (-1, side)).unflatten(2, (-1, frames))
    x = x.permute(0, 2, 4, 6, 3, 5, 7, 1)  # B t h w, frames side side C
    return x.flatten(4).flatten(0, 1).movedim(-1, 1)


def unfold_cubes(x: Tensor, batch: int, frames: int, side: int) -> Tensor:
    """[B·t, frames·side·side·C, h, w] → [B, C, t·frames, h·side, w·side], channels-last."""
    x = x.movedim(1, -1).unflatten(0, (batch, -1)).unflatten(-1, (frames, side, side, -1))
    x = x.permute(0, 1, 4, 2, 5, 3, 6, 7)  # B, t frames, h side, w side, C
    return x.flatten(5, 6).flatten(3, 4).flatten(1, 2).movedim(-1, 1)


def layout_of(weight: Tensor, device: torch.device | str) -> torch.memory_format:
    """The layout in which the weight of a convolution [C', C, (T,) H, W] is kept on that device."""
    if weight.dim() != 5:
        return torch.channels_last if weight.dim() == 4 else torch.contiguous_format
    channels_first = torch.device(device).type == "cpu" and weight.shape[1] >= _WIDEST and weight.shape[2] > 1
    return torch.contiguous_format if channels_first else torch.channels_last_3d


def convolve_clip(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride=(1, 1, 1), padding=(0, 0, 0)
) -> Tensor:
    """`F.conv3d` of a clip [B, C, T, H, W], channels last; on a CPU, what takes the least time there.

    With half as many positions as outputs per position, or fewer, reading the weights is the work: then one
    product of matrices takes down to a third of the time. The kernel in three dimensions for channels last is
    slow with many channels, and adds up thousands of products in a row, which costs digits. The one for
    channels first does neither. With fewer channels and many positions it is quicker still to convolve frames
    with each plane of the kernel, and to add up.
    """
    channels, depth = weight.shape[1:3]
    if x.device.type != "cpu" or depth == 1 or padding[0]:
        return F.conv3d(x, weight, bias, stride, padding)
    sizes = zip(x.shape[2:], weight.shape[2:], stride, padding, strict=True)
    sides = [(size + 2 * pad - kernel) // step + 1 for size, kernel, step, pad in sizes]
    positions = len(x) * prod(sides)
    if 2 * positions <= len(weight):
        return _as_product(x, weight, bias, stride, padding, sides)
    if channels >= _WIDEST or (channels >= _WIDE and len(x) > 1):
        out = F.conv3d(x.contiguous(), weight.contiguous(), bias, stride, padding)
        return out.contiguous(memory_format=torch.channels_last_3d)
    if channels < _WIDE or positions < _MANY:
        return F.conv3d(x, weight, bias, stride, padding)
    return _convolve_planes(x, weight, bias, stride, padding[1:])


def _as_product(x: Tensor, weight: Tensor, bias: Tensor | None, stride, padding, sides: list[int]) -> Tensor:
    """The convolution of a clip as one product of matrices: what each position sees, and the weights."""
    (batch, channels), (_, down, across) = x.shape[:2], padding
    seen = F.pad(x.permute(0, 2, 3, 4, 1), (0, 0, across, across, down, down)).contiguous()
    each, *steps, _ = seen.stride()
    moved = [step * by for step, by in zip(steps, stride, strict=True)]
    kernel, inner = [channels, *weight.shape[2:]], [1, *steps]
    if (
        not weight.is_contiguous()
    ):  # it is channels last: what a position sees is put in the order of the weight
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


def repeat_first(x: Tensor, front: int) -> Tensor:
    """`x` with `front` copies of its first frame before it: what a causal convolution sees at the start."""
    if not front:
        return x
    out = empty_clip(x, x.shape[2] + front, *x.shape[3:])
    out[:, :, front:] = x
    out[:, :, :front] = x[:, :, :1]
    return out


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

    def room(self, x: Tensor, front: int | None = None) -> tuple[Tensor, Tensor]:
        """Memory for a clip like `x` [B, C, T, H, W] and all around it; and the place in it for the clip.

        Once the clip is written to its place, `surround` and `TimeState.precede` fill in the rest: `front`
        frames before it, as many as the kernel needs unless told otherwise.
        """
        height, width = x.shape[3:]
        front = self.front if front is None else front
        room = empty_clip(x, front + x.shape[2], height + 2 * self.border, width + 2 * self.border)
        inner = slice(self.border, self.border + height), slice(self.border, self.border + width)
        return room, room[:, :, front:, inner[0], inner[1]]

    def surround(self, room: Tensor) -> None:
        """Fill the pixels around each frame of `room`, where the convolution wants them written before."""
        n = self.border
        for frames in (room[..., n:-n].transpose(-1, -2), room) if n else ():  # rows, then columns
            for i in range(n):
                near = n + 1 + i if self.mirror else n
                frames[..., n - 1 - i] = frames[..., near]
                frames[..., i - n] = frames[..., -near - 1]

    def ready(self, x: Tensor) -> Tensor:
        """Convolve a clip [B, C, front + T, H, W] that already begins with its `front` extra frames.

        And that has its borders, where the convolution wants copies of the outermost pixels.
        """
        conv = self.conv
        if self.front or conv.stride[0] > 1:
            return convolve_clip(x, conv.weight, conv.bias, conv.stride, conv.padding)
        # frame by frame it is the same, and up to six times as fast (kernel 1, on a CPU)
        weight = self.conv.weight.squeeze(2)
        return as_clip(F.conv2d(as_frames(x), weight, self.conv.bias, *self.plane), len(x))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C', T', H', W']: the whole clip in one call."""
        return self.ready(repeat_first(x, self.front))


class FrameConv2d(nn.Conv2d):
    """2-D convolution of every frame by itself."""

    front = 0

    def ready(self, x: Tensor) -> Tensor:
        """The same as calling it: there are no extra frames."""
        return self(x)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C', T, H', W']."""
        return as_clip(super().forward(as_frames(x)), len(x))


class GroupNorm(nn.Module):
    """Group normalisation of a clip, with statistics over all its frames, or of each frame by itself.

    Statistics are float32 per block of rows and float64 between blocks, whatever the dtype of the
    clip: summing a whole clip in float32 costs digits that parity needs.
    """

    def __init__(self, channels: int, groups: int = 32, eps: float = 1e-6, per_frame: bool = False) -> None:
        super().__init__()
        self.groups, self.eps, self.per_frame = groups, eps, per_frame
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [B, C, T, H, W]."""
        return self._write(x, empty_clip(x, *x.shape[2:]), lambda rows: rows)

    def silu(self, x: Tensor, front: int = 0, out: Tensor | None = None) -> Tensor:
        """Normalise, apply x·sigmoid(x), repeat the first frame `front` times: [B, C, front + T, H, W].

        `out` is a clip of that shape to write over, `x` itself if there is no front.
        """
        if out is None:
            out = empty_clip(x, front + x.shape[2], *x.shape[3:])
        self.silu_into(x, out[:, :, front:])
        if front:
            out[:, :, :front] = out[:, :, front : front + 1]
        return out

    def silu_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Normalise and apply x·sigmoid(x) into `out`: `x` itself, or a clip or view of a clip like it."""
        return self._write(x, out, lambda rows: F.silu(rows, inplace=True))

    def fitted(self, x: Tensor) -> "GroupNorm | FittedNorm":
        """This norm for parts of the clip `x`, with the statistics of all of it."""
        return self if self.per_frame else FittedNorm([self.affine(sample) for sample in self._samples(x)])

    def _write(self, x: Tensor, out: Tensor, act) -> Tensor:
        for source, target in zip(self._samples(x), self._samples(out), strict=True):
            _write_affine(source, target, *self.affine(source), act)
        return out

    def _samples(self, x: Tensor) -> list[Tensor]:
        """What is normalised together, channels last: [T, H, W, C] each."""
        clips = x.permute(0, 2, 3, 4, 1)  # [B, T, H, W, C]
        return [frame for clip in clips for frame in clip.split(1)] if self.per_frame else list(clips)

    def affine(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        """Per channel, scale and shift [C] float32 that normalise the sample and apply weight and bias."""
        var, mean = _moments(sample)
        center = self._over_groups(mean)
        spread = self._over_groups(var + (mean - center) ** 2)
        scale = self.weight / (spread + self.eps).sqrt()
        return scale.float(), (self.bias - center * scale).float()

    def _over_groups(self, channels: Tensor) -> Tensor:
        """Replace each channel's value [C] by the mean of its group."""
        mean = channels.unflatten(0, (self.groups, -1)).mean(1, keepdim=True)
        return mean.expand(-1, len(channels) // self.groups).flatten()


class FittedNorm:
    """A group norm whose statistics are known: a scale and a shift of each channel [C] for each clip."""

    def __init__(self, affines: list[tuple[Tensor, Tensor]]) -> None:
        self.affines = affines

    def silu_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Normalise and apply x·sigmoid(x) into `out`, a clip or view of a clip like `x`."""
        clips = (clip.permute(0, 2, 3, 4, 1) for clip in (x, out))  # [B, T, H, W, C]
        for source, target, affine in zip(*clips, self.affines, strict=True):
            _write_affine(source, target, *affine, lambda rows: F.silu(rows, inplace=True))
        return out


def _write_affine(source: Tensor, target: Tensor, scale: Tensor, shift: Tensor, act) -> None:
    """Scale and shift a sample [T, H, W, C] into `target`, and apply `act` while it is in the cache."""
    for rows, block in zip(cache_blocks(source), cache_blocks(target), strict=True):
        act(torch.addcmul(shift, rows, scale, out=block))


class RmsNorm(nn.Module):
    """Each position's channels divided by their length and times √C, then a gain per channel.

    x / max(‖x‖₂, 1e-12) · √C · gamma, with no epsilon inside the root, as in Wan and HunyuanVideo 1.5. The
    length is taken in float32 whatever the dtype of the clip.
    """

    EPSILON = 1e-12

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [B, C, T, H, W]."""
        return self._write(x, empty_clip(x, *x.shape[2:]), lambda rows: rows)

    def silu_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Normalise and apply x·sigmoid(x) into `out`: `x` itself, or a clip or view of a clip like it."""
        return self._write(x, out, lambda rows: F.silu(rows, inplace=True))

    def _write(self, x: Tensor, out: Tensor, act) -> Tensor:
        gain = self.gamma * len(self.gamma) ** 0.5
        for rows, block in _rows_of(x, out):
            length = _lengths(rows)
            torch.div(rows, length.clamp_(min=self.EPSILON).to(rows.dtype), out=block)
            act(block.mul_(gain))
        return out


class PixelNorm(nn.Module):
    """Each position's channels divided by the root of their mean square, as in LTX-Video; no weights.

    x / sqrt(mean(x²) + 1e-8). The mean is taken in float32 whatever the dtype of the clip.
    """

    EPSILON = 1e-8

    def silu_into(self, x: Tensor, out: Tensor, told: Tensor | None = None) -> Tensor:
        """Normalise and apply x·sigmoid(x) into `out`: `x` itself, or a clip or view of a clip like it.

        Between the two, `told` [2, C] is a shift to add, and a scale, less 1, to multiply by before that.
        """
        shift, scale = (None, None) if told is None else (told[0], 1 + told[1])
        for rows, block in _rows_of(x, out):
            spread = _lengths(rows).square_().div_(rows.shape[-1]).add_(self.EPSILON).sqrt_()
            torch.div(rows, spread.to(rows.dtype), out=block)
            if scale is not None:
                torch.addcmul(shift, block, scale, out=block)
            F.silu(block, inplace=True)
        return out


def _lengths(rows: Tensor) -> Tensor:
    """How long the channels of each position are as a vector, [..., 1] in float32, or float64 if they are."""
    dtype = torch.promote_types(rows.dtype, torch.float32)
    return torch.linalg.vector_norm(rows, dim=-1, keepdim=True, dtype=dtype)


def _rows_of(x: Tensor, out: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Two clips [B, C, T, H, W] alike, in blocks [..., C] side by side: of frame by frame, or of several."""
    small = 0 if _is_whole(x) else _BLOCK_BYTES // max(1, x[0, :, :1].numel() * x.element_size())
    for source, target in zip(x.permute(0, 2, 3, 4, 1), out.permute(0, 2, 3, 4, 1), strict=True):
        if small > 1:  # so many frames are small enough together
            yield from zip(source.split(small), target.split(small), strict=True)
        else:
            yield from zip(cache_blocks(source), cache_blocks(target), strict=True)


def _moments(sample: Tensor) -> tuple[Tensor, Tensor]:
    """Variance and mean [C] of each channel of a sample [T, H, W, C]."""
    if _is_whole(sample):
        return torch.var_mean(sample.float(), dim=(0, 1, 2), correction=0)
    blocks = [block.flatten(0, -2) for block in cache_blocks(sample)]
    share = torch.tensor([[len(rows)] for rows in blocks], dtype=torch.float64)
    share /= share.sum()
    parts = [_block_moments(rows.float()) for rows in blocks]
    variances, means = (torch.stack(part).double() for part in zip(*parts, strict=True))  # [blocks, C]
    mean = (share * means).sum(0)
    return (share * (variances + (means - mean) ** 2)).sum(0), mean


def _block_moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Variance and mean [C] of each column of [rows, C].

    In two passes over a block that stays in the cache: several times faster than torch.var_mean, and
    without the drift of a running sum where a column is constant.
    """
    mean = rows.mean(0)
    return (rows - mean).square_().mean(0), mean


def _is_whole(sample: Tensor) -> bool:
    """Whether blocks are of no use: on a GPU, and while a trace counts bytes, where each only costs time."""
    return sample.device.type != "cpu" or type(sample) is not Tensor


def cache_blocks(sample: Tensor) -> list[Tensor]:
    """Views of a sample [T, H, ...], together all of it; on a CPU each is small enough for its cache."""
    if _is_whole(sample):
        return [sample]
    n = max(1, _BLOCK_BYTES // (sample[0, 0].numel() * sample.element_size()))
    return [rows for frame in sample for rows in frame.split(n)]


def frame_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Every position of a frame attends to all positions of that frame, one head: [N, C, H, W] each."""
    # [N, 1, H·W, C]. With channels that lie apart PyTorch holds a score for every pair of positions.
    tokens = [x.flatten(2).transpose(1, 2).contiguous().unsqueeze(1) for x in (q, k, v)]
    mixed = F.scaled_dot_product_attention(*tokens)
    return mixed.squeeze(1).transpose(1, 2).unflatten(2, q.shape[2:])


def attend(q: Tensor, seen: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Positions [B, n, C] attend to those of several frames, one head; `seen` has keys and values [B, m, C].

    One softmax, in float32, over the positions of all frames, without joining them: what the earlier ones
    gave is scaled down where a later one has a larger score. torch's own kernel for CPUs takes a rough
    exponential, which costs half of the error that the parity of a whole network may have.
    """
    seen = list(seen)
    most = max(keys.shape[:2].numel() for keys, _ in seen)
    parts = q.split(max(1, _SCORES // most), dim=1)
    return torch.cat([_attend(part.float(), seen) for part in parts], dim=1).to(q.dtype)


def _attend(q: Tensor, seen: list[tuple[Tensor, Tensor]]) -> Tensor:
    q = q * q.shape[-1] ** -0.5
    mixed, total = torch.zeros_like(q), torch.zeros_like(q[..., :1])
    top = torch.full_like(total, -torch.inf)
    for keys, values in seen:
        scores = q @ keys.float().mT  # [B, n, m]
        before, top = top, torch.maximum(top, scores.amax(-1, keepdim=True))
        weights, less = scores.sub_(top).exp_(), (before - top).exp_()
        total.mul_(less).add_(weights.sum(-1, keepdim=True))
        mixed.mul_(less).baddbmm_(weights, values.float())
    return mixed.div_(total)


class ResBlock(nn.Module):
    """Norm, SiLU and convolution, twice, added to the input: all over the clip, or all frame by frame."""

    def __init__(self, conv: type[CausalConv3d | FrameConv2d], inputs: int, outputs: int) -> None:
        super().__init__()
        per_frame = conv is FrameConv2d
        self.norm1 = GroupNorm(inputs, per_frame=per_frame)
        self.conv1 = conv(inputs, outputs, 3, 1, 1)
        self.norm2 = GroupNorm(outputs, per_frame=per_frame)
        self.conv2 = conv(outputs, outputs, 3, 1, 1)
        self.nin_shortcut = nn.Identity() if inputs == outputs else conv(inputs, outputs, 1, 1, 0)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C', T, H, W]."""
        front = self.conv1.front
        room = self.norm1.silu(x, front)
        h = self.conv1.ready(room)
        room = self._room(room, h)  # fresh memory costs as much as a pass over it
        h = self.norm2.silu(h, front, room)
        del room
        h = self.conv2.ready(h)
        return h.add_(self.nin_shortcut(x))

    @staticmethod
    def _room(before: Tensor, h: Tensor) -> Tensor | None:
        """What the second norm may write over: its own input, else the first one's output if that fits."""
        same_frames, same_width = before.shape[2] == h.shape[2], before.shape[1] == h.shape[1]
        return h if same_frames else before if same_width else None


class Attention(nn.Module):
    """Attention within each frame, one head, added to the input.

    `fold` and `unfold` turn a clip into frames and back.
    """

    fold, unfold = staticmethod(as_frames), staticmethod(as_clip)

    def __init__(self, channels: int, conv: type[CausalConv3d | FrameConv2d] = CausalConv3d) -> None:
        super().__init__()
        self.norm = GroupNorm(channels, per_frame=conv is FrameConv2d)
        self.q, self.k, self.v, self.proj_out = (conv(channels, channels, 1, 1, 0) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → the same shape."""
        h = self.norm(x)
        mixed = frame_attention(*(self.fold(part(h)) for part in (self.q, self.k, self.v)))
        return self.proj_out(self.unfold(mixed, len(x))).add_(x)


class Down(nn.Module):
    """Halve the frame, or the frame and the frame rate, by a strided convolution; zeros right and below."""

    def __init__(self, conv: CausalConv3d | FrameConv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C, T', H/2, W/2], rounded down."""
        front, (height, width) = self.conv.front, x.shape[3:]
        padded = empty_clip(x, front + x.shape[2], height + 1, width + 1)
        padded[:, :, front:, :height, :width] = x
        padded[..., height:, :] = 0
        padded[..., width:] = 0
        padded[:, :, :front] = padded[:, :, front : front + 1]
        return self.conv.ready(padded)


class Up(nn.Module):
    """Double the frame, or the frame and the frame rate, by interpolation; then convolve."""

    def __init__(self, conv: CausalConv3d | FrameConv2d, mode: str, time: bool = False) -> None:
        super().__init__()
        self.conv, self.mode, self.time = conv, mode, time

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C, T or 2T-1, 2H, 2W]."""
        front = self.conv.front  # interpolated with the rest, which spares a copy of the large clip
        x = double_time(x, front) if self.time else repeat_first(x, front)
        return self.conv.ready(as_clip(F.interpolate(as_frames(x), scale_factor=2.0, mode=self.mode), len(x)))


def double_time(x: Tensor, front: int = 0) -> Tensor:
    """T frames → `front` copies of the first, the first, and the others interpolated to twice their number.

    Between the others interpolation has half-pixel centres: 3/4 of the nearer frame, 1/4 of the farther.
    """
    frames = x.shape[2]
    out = empty_clip(x, front + 2 * frames - 1, *x.shape[3:])
    out[:, :, : front + 1] = x[:, :, :1]
    if frames > 1:
        before, after = x[:, :, 1:-1], x[:, :, 2:]
        early, late = out[:, :, front + 1 :: 2], out[:, :, front + 2 :: 2]  # the two made of each frame
        early[:, :, :1] = x[:, :, 1:2]
        torch.lerp(before, after, 0.75, out=early[:, :, 1:])
        torch.lerp(before, after, 0.25, out=late[:, :, :-1])
        late[:, :, -1:] = x[:, :, -1:]
    return out
