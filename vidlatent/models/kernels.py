"""What is done to clips on a GPU besides convolving, in as few passes over its memory as can be, by Triton.

What these kernels give is what the plain forms give, in norms.py and passes.py, which also run where there is
no Triton: a pass less each for dividing, for a gain, for a bias and for x·sigmoid(x), and no copy in float32.
All arithmetic is float32, and is rounded once, where the result is stored. A clip here is one sample
[T, H, W, C], its channels side by side in memory; frames, rows and columns may lie apart, as in the room left
around a clip.
"""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 8192  # numbers that a program holds at once
_SIZES = ["positions", "height", "width"]  # of which a kernel is not compiled anew for each divisor
_STEPS = 32  # blocks of which a program adds up the statistics


@triton.jit
def _place(positions, height, width, by_frame, by_row, by_column):
    """Where the channels of each of these positions begin in a clip with such strides."""
    frame, rest = positions // (height * width), positions % (height * width)
    row, column = rest // width, rest % width
    return frame.to(tl.int64) * by_frame + row.to(tl.int64) * by_row + column.to(tl.int64) * by_column


@triton.jit
def _cells(positions, channels: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr):
    """The positions and channels of a program, and which of these there are."""
    position = tl.program_id(0) * rows + tl.arange(0, rows)
    channel = tl.arange(0, columns)
    return position, channel, (position < positions)[:, None] & (channel < channels)[None, :]


@triton.jit
def _load(place, mask):
    """What `place` points to, in float32; 0 where there is nothing."""
    return tl.load(place, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _store(values, place, mask, silu: tl.constexpr):
    """Store float32 `values`, or what SiLU makes of them, as what `place` points to."""
    if silu:
        values = values * tl.sigmoid(values)
    tl.store(place, values.to(place.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=_SIZES)
def _scale_by_length(
    x, out, gain, shift, bias, positions, height, width,
    x_frame, x_row, x_column, out_frame, out_row, out_column, epsilon,
    channels: tl.constexpr, mean: tl.constexpr, shifted: tl.constexpr, biased: tl.constexpr,
    silu: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Positions, and a bias, over their length (with `mean`, its root mean square), gain, shift, SiLU."""
    position, channel, mask = _cells(positions, channels, rows, columns)
    source = _place(position, height, width, x_frame, x_row, x_column)
    values = _load(x + source[:, None] + channel[None, :], mask)
    known = channel < channels
    if biased:
        values += _load(bias + channel, known)[None, :]
    squares = tl.sum(values * values, axis=1)
    length = tl.sqrt(squares / channels + epsilon) if mean else tl.maximum(tl.sqrt(squares), epsilon)
    values = values / length[:, None] * _load(gain + channel, known)[None, :]
    if shifted:
        values += _load(shift + channel, known)[None, :]
    target = _place(position, height, width, out_frame, out_row, out_column)
    _store(values, out + target[:, None] + channel[None, :], mask, silu)


@triton.jit(do_not_specialize=_SIZES)
def _scale_and_shift(
    x, out, scale, shift, positions, height, width,
    x_frame, x_row, x_column, out_frame, out_row, out_column, by_frame,
    channels: tl.constexpr, silu: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Scale and shift each channel of a clip, SiLU; frame n has the scales that begin at n · `by_frame`."""
    position, channel, mask = _cells(positions, channels, rows, columns)
    source = _place(position, height, width, x_frame, x_row, x_column)
    values = _load(x + source[:, None] + channel[None, :], mask)
    told = (position // (height * width) * by_frame)[:, None] + channel[None, :]
    values = values * _load(scale + told, mask) + _load(shift + told, mask)
    target = _place(position, height, width, out_frame, out_row, out_column)
    _store(values, out + target[:, None] + channel[None, :], mask, silu)


@triton.jit(do_not_specialize=_SIZES)
def _add_up(
    x, means, squares, positions, height, width, x_frame, x_row, x_column,
    channels: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr, steps: tl.constexpr,
):  # fmt: skip
    """Of each channel of `steps` · `rows` positions: the mean, and the sum of squared distances from it.

    Distances from the first of them are added up, so that a large mean costs no digits.
    """
    sample, part, parts = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    channel = tl.arange(0, columns)
    known = channel < channels
    x += sample.to(tl.int64) * x_frame
    first = part * rows * steps
    start = _place(first, height, width, x_frame, x_row, x_column)
    origin = _load(x + start + channel, known)
    totals, squared = tl.zeros([rows, columns], tl.float32), tl.zeros([rows, columns], tl.float32)
    for step in range(steps):
        position = first + step * rows + tl.arange(0, rows)
        mask = (position < positions)[:, None] & known[None, :]
        source = _place(position, height, width, x_frame, x_row, x_column)
        values = _load(x + source[:, None] + channel[None, :], mask)
        apart = tl.where(mask, values - origin[None, :], 0.0)
        totals += apart
        squared += apart * apart
    total, square = tl.sum(totals, axis=0), tl.sum(squared, axis=0)
    count = tl.minimum(rows * steps, positions - first).to(tl.float32)
    place = (sample * parts + part) * channels + channel
    tl.store(means + place, origin + total / count, mask=known)
    tl.store(squares + place, square - total * total / count, mask=known)


@triton.jit(do_not_specialize=_SIZES)
def _add(
    h, x, bias, positions, height, width, h_frame, h_row, h_column, x_frame, x_row, x_column,
    channels: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Add to a clip another one and a bias."""
    position, channel, mask = _cells(positions, channels, rows, columns)
    target = _place(position, height, width, h_frame, h_row, h_column)[:, None] + channel[None, :]
    source = _place(position, height, width, x_frame, x_row, x_column)[:, None] + channel[None, :]
    values = _load(h + target, mask) + _load(x + source, mask)
    values += _load(bias + channel, channel < channels)[None, :]
    _store(values, h + target, mask, False)


def scale_by_length(
    x: Tensor,
    out: Tensor,
    gain: Tensor,
    epsilon: float,
    shift: Tensor | None = None,
    bias: Tensor | None = None,
    mean: bool = False,
    silu: bool = True,
) -> None:
    """Each position of `x` over its length, times `gain` [C] plus `shift` [C], and SiLU, into `out`.

    Clips [B, C, T, H, W]; `out` may be `x`. The length is at least `epsilon`; with `mean` it is the root of
    the mean square plus `epsilon`. `bias` [C] is added to `x` before anything else.
    """
    channels, rows, columns = _sizes(x)
    for source, target in _samples(x, out):
        positions = source[..., 0].numel()
        with torch.cuda.device_of(x):  # where Triton launches
            _scale_by_length[(triton.cdiv(positions, rows),)](
                source, target, gain, gain if shift is None else shift, gain if bias is None else bias,
                positions, *source.shape[1:3], *source.stride()[:3], *target.stride()[:3], epsilon,
                channels=channels, mean=mean, shifted=shift is not None, biased=bias is not None, silu=silu,
                rows=rows, columns=columns, num_warps=8,
            )  # fmt: skip


def scale_and_shift(x: Tensor, out: Tensor, affines: list[tuple[Tensor, Tensor]], silu: bool) -> None:
    """Scale and shift the channels of each clip of `x` [B, C, T, H, W], and SiLU, into `out`, maybe `x`.

    `affines` has for each clip scale and shift [C] float32, or [T, C] for each of its frames.
    """
    channels, rows, columns = _sizes(x)
    for (source, target), (scale, shift) in zip(_samples(x, out), affines, strict=True):
        positions = source[..., 0].numel()
        with torch.cuda.device_of(x):  # where Triton launches
            _scale_and_shift[(triton.cdiv(positions, rows),)](
                source, target, scale.contiguous(), shift.contiguous(), positions, *source.shape[1:3],
                *source.stride()[:3], *target.stride()[:3], channels if scale.dim() > 1 else 0,
                channels=channels, silu=silu, rows=rows, columns=columns, num_warps=8,
            )  # fmt: skip


def add(h: Tensor, x: Tensor, bias: Tensor) -> None:
    """Add to a clip `h` [B, C, T, H, W], in place, another one and a bias [C]."""
    channels, rows, columns = _sizes(x)
    for target, source in _samples(h, x):
        positions = source[..., 0].numel()
        with torch.cuda.device_of(x):  # where Triton launches
            _add[(triton.cdiv(positions, rows),)](
                target, source, bias, positions, *source.shape[1:3],
                *target.stride()[:3], *source.stride()[:3],
                channels=channels, rows=rows, columns=columns, num_warps=8,
            )  # fmt: skip


def moments(sample: Tensor, per_frame: bool = False) -> tuple[Tensor, Tensor]:
    """Variance and mean [C] of each channel of a sample [T, H, W, C], or [T, C] of each of its frames.

    In float32 within a chunk, and float64 between chunks.
    """
    channels, rows, columns = _sizes(sample.movedim(-1, 0)[None])
    samples = len(sample) if per_frame else 1
    positions = sample[..., 0].numel() // samples
    steps = min(_STEPS, triton.cdiv(positions, rows))
    each, parts = rows * steps, triton.cdiv(positions, rows * steps)
    means, squares = torch.empty(2, samples, parts, channels, dtype=torch.float32, device=sample.device)
    with torch.cuda.device_of(sample):  # where Triton launches
        _add_up[(samples, parts)](
            sample, means, squares, positions, *sample.shape[1:3], *sample.stride()[:3],
            channels=channels, rows=rows, columns=columns, steps=steps, num_warps=8,
        )  # fmt: skip
    counts = torch.full((parts, 1), each, dtype=torch.float64, device=sample.device)
    counts[-1] = positions - (parts - 1) * each
    means, squares = means.double(), squares.double()
    mean = (counts * means).sum(1) / positions
    variance = (squares + counts * (means - mean[:, None]) ** 2).sum(1) / positions
    return (variance, mean) if per_frame else (variance[0], mean[0])


def _sizes(x: Tensor) -> tuple[int, int, int]:
    """Channels of a clip, and how many positions of how many columns a program takes: powers of two."""
    columns = triton.next_power_of_2(x.shape[1])
    return x.shape[1], max(1, _BLOCK // columns), columns


def _samples(x: Tensor, out: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The clips of two batches alike, side by side: [T, H, W, C] each."""
    return zip(x.permute(0, 2, 3, 4, 1), out.permute(0, 2, 3, 4, 1), strict=True)
