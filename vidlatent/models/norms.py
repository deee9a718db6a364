"""Norms of clips: over groups of channels, or over the channels of each position."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidlatent.models.clips import empty_clip
from vidlatent.models.passes import kernels_for

_BLOCK_BYTES = 1 << 20  # what several passes over the same rows can keep in a core's cache
_PART_BYTES = 1 << 26  # of float32 copies of frames whose statistics are taken at once without a kernel


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
        return self._write(x, empty_clip(x, *x.shape[2:]), silu=False)

    def silu(
        self, x: Tensor, front: int = 0, out: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        """Normalise, apply x·sigmoid(x), repeat the first frame `front` times: [B, C, front + T, H, W].

        `out` is a clip of that shape to write over, `x` itself if there is no front; `bias` see `silu_into`.
        """
        if out is None:
            out = empty_clip(x, front + x.shape[2], *x.shape[3:])
        self.silu_into(x, out[:, :, front:], bias)
        if front:
            out[:, :, :front] = out[:, :, front : front + 1]
        return out

    def silu_into(self, x: Tensor, out: Tensor, bias: Tensor | None = None) -> Tensor:
        """Normalise and apply x·sigmoid(x) into `out`: `x` itself, or a clip or view of a clip like it.

        `bias` [C] is added to `x` before, where a convolution has left that to its reader.
        """
        return self._write(x, out, True, bias)

    def fitted(self, x: Tensor, bias: Tensor | None = None) -> "Biased | FittedNorm":
        """This norm for parts of the clip `x`, with the statistics of all of it; `bias` as in `silu_into`."""
        if self.per_frame:
            return Biased(self, bias)
        return FittedNorm([self.affine(sample, bias) for sample in self._samples(x)])

    def _write(self, x: Tensor, out: Tensor, silu: bool, bias: Tensor | None = None) -> Tensor:
        kernels = kernels_for(x, out)
        if kernels is not None:
            clips = x.permute(0, 2, 3, 4, 1)  # [B, T, H, W, C]
            affines = [self._fit(*kernels.moments(clip, self.per_frame), bias) for clip in clips]
            kernels.scale_and_shift(x, out, affines, silu)
            return out
        if _is_whole(x):
            return self._write_whole(x, out, silu, bias)
        for source, target in zip(self._samples(x), self._samples(out), strict=True):
            _write_affine(source, target, *self.affine(source, bias), silu)
        return out

    def _write_whole(self, x: Tensor, out: Tensor, silu: bool, bias: Tensor | None) -> Tensor:
        """The same without a kernel, in a few launches: a clip at once, or frames that have _PART_BYTES."""
        dims, frames = (0, 1, 2), x.shape[2]
        if self.per_frame:
            dims, frames = (1, 2), max(1, _PART_BYTES // max(1, 4 * x[0, :, 0].numel()))
        clips = (clip.permute(0, 2, 3, 4, 1) for clip in (x, out))  # [B, T, H, W, C]
        for whole, place in zip(*clips, strict=True):
            for source, target in zip(whole.split(frames), place.split(frames), strict=True):
                var, mean = torch.var_mean(source.float(), dim=dims, correction=0, keepdim=True)
                scale, shift = self._fit(var, mean, bias)
                _act(torch.addcmul(shift, source, scale, out=target), silu)
        return out

    def _samples(self, x: Tensor) -> list[Tensor]:
        """What is normalised together, channels last: [T, H, W, C] each."""
        clips = x.permute(0, 2, 3, 4, 1)  # [B, T, H, W, C]
        return [frame for clip in clips for frame in clip.split(1)] if self.per_frame else list(clips)

    def affine(self, sample: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Per channel, scale and shift [C] float32 that normalise the sample and apply weight and bias.

        `bias` [C] is what the sample still lacks.
        """
        return self._fit(*_moments(sample), bias)

    def _fit(self, var: Tensor, mean: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scale and shift [..., C] float32 of samples whose channels have this variance and mean."""
        if bias is not None:  # moves the mean, and is no more than a part of the shift
            scale, shift = self._fit(var, mean + bias, None)
            return scale, shift + scale * bias
        center = self._over_groups(mean)
        spread = self._over_groups(var + (mean - center) ** 2)
        scale = self.weight / (spread + self.eps).sqrt()
        return scale.float(), (self.bias - center * scale).float()

    def _over_groups(self, channels: Tensor) -> Tensor:
        """Replace each channel's value [..., C] by the mean of its group."""
        mean = channels.unflatten(-1, (self.groups, -1)).mean(-1, keepdim=True)
        return mean.expand(*mean.shape[:-1], channels.shape[-1] // self.groups).flatten(-2)


@dataclass(frozen=True)
class Biased:
    """A norm of clips that still lack a bias [C], which it adds as it reads them; None: they lack none."""

    norm: "GroupNorm | RmsNorm"
    bias: Tensor | None

    def fitted(self, x: Tensor) -> "Biased | FittedNorm":
        """This norm for parts of the clip `x`, with the statistics of all of it."""
        return self.norm.fitted(x, self.bias)

    def silu_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Normalise and apply x·sigmoid(x) into `out`: `x` itself, or a clip or view of a clip like it."""
        return self.norm.silu_into(x, out, self.bias)


class FittedNorm:
    """A group norm whose statistics are known: a scale and a shift of each channel [C] for each clip."""

    def __init__(self, affines: list[tuple[Tensor, Tensor]]) -> None:
        self.affines = affines

    def silu_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Normalise and apply x·sigmoid(x) into `out`, a clip or view of a clip like `x`."""
        kernels = kernels_for(x, out)
        if kernels is not None:
            kernels.scale_and_shift(x, out, self.affines, silu=True)
            return out
        clips = (clip.permute(0, 2, 3, 4, 1) for clip in (x, out))  # [B, T, H, W, C]
        for source, target, affine in zip(*clips, self.affines, strict=True):
            _write_affine(source, target, *affine, silu=True)
        return out


def _write_affine(source: Tensor, target: Tensor, scale: Tensor, shift: Tensor, silu: bool) -> None:
    """Scale and shift a sample [T, H, W, C] into `target`, with SiLU on it while it is in the cache."""
    for rows, block in zip(cache_blocks(source), cache_blocks(target), strict=True):
        _act(torch.addcmul(shift, rows, scale, out=block), silu)


def _act(rows: Tensor, silu: bool) -> None:
    """Apply x·sigmoid(x) in place, if asked to."""
    if silu:
        F.silu(rows, inplace=True)


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
        return self._write(x, empty_clip(x, *x.shape[2:]), silu=False)

    def silu_into(self, x: Tensor, out: Tensor, bias: Tensor | None = None) -> Tensor:
        """Normalise and apply x·sigmoid(x) into `out`: `x` itself, or a clip or view of a clip like it.

        `bias` [C] is added to `x` before, where a convolution has left that to its reader.
        """
        return self._write(x, out, True, bias)

    def fitted(self, x: Tensor, bias: Tensor | None = None) -> Biased:
        """This norm for parts of the clip `x`: they are normalised alike, each position by itself."""
        return Biased(self, bias)

    def _write(self, x: Tensor, out: Tensor, silu: bool, bias: Tensor | None = None) -> Tensor:
        gain = self.gamma * len(self.gamma) ** 0.5
        kernels = kernels_for(x, out)
        if kernels is not None:
            kernels.scale_by_length(x, out, gain, self.EPSILON, bias=bias, silu=silu)
            return out
        if bias is not None:
            x = x + bias[:, None, None, None]
        for rows, block in _rows_of(x, out):
            length = _lengths(rows)
            torch.div(rows, length.clamp_(min=self.EPSILON).to(rows.dtype), out=block)
            _act(block.mul_(gain), silu)
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
        kernels = kernels_for(x, out)
        if kernels is not None:
            gain = x.new_ones(x.shape[1]) if scale is None else scale
            kernels.scale_by_length(x, out, gain, self.EPSILON, shift, mean=True)
            return out
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
    """Whether blocks are of no use: on a GPU, and where bytes are only counted ("meta"), they cost time."""
    return sample.device.type != "cpu"


def cache_blocks(sample: Tensor) -> list[Tensor]:
    """Views of a sample [T, H, ...], together all of it; on a CPU each is small enough for its cache."""
    if _is_whole(sample):
        return [sample]
    n = max(1, _BLOCK_BYTES // (sample[0, 0].numel() * sample.element_size()))
    return [rows for frame in sample for rows in frame.split(n)]
