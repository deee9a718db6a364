"""Large frames band by band: a causal convolution by columns, and layers near the pixels by rows.

What such a convolution is fed is a frame, normalised, and those before it: for a kernel that sees three
frames, three times the frame. In bands that is never there in whole, and the result may replace the frame.

Several layers one after the other see some rows beside a band as well. Those are computed for each of the
bands that see them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vidlatent.models.arithmetic import is_cpu
from vidlatent.models.causal import TimeState
from vidlatent.models.clips import empty_clip
from vidlatent.models.convolution import CausalConv3d, convolve_clip

BAND_BYTES = 3 << 23  # of what a convolution is fed for one band

Write = Callable[[Tensor, Tensor], object]  # puts what becomes of a clip, position by position, into a place


def divides(x: Tensor, state: TimeState) -> bool:
    """Whether frames of `x` are worth dividing: on a CPU. Elsewhere bands would be many small calls."""
    return is_cpu(x.device) and not state.on_gpu(x)


def suits_bands(conv: nn.Module, x: Tensor, large: int, state: TimeState) -> bool:
    """Whether `x` [B, C, T, H, W] is one frame of more than `large` bytes that `conv` can take in bands."""
    return (
        divides(x, state)
        and x.shape[2] == 1
        and x.nbytes > large
        and isinstance(conv, CausalConv3d)
        and conv.looks_back
    )


def convolve_bands(
    conv: CausalConv3d, write: Write, x: Tensor, state: TimeState, out: Tensor | None = None
) -> Tensor:
    """Convolve what `write` makes of one frame `x` [B, C, 1, H, W]; `out` is `x` itself or None, a new one.

    What a band is fed is put together before the one beside it is finished, which overwrites what both read.
    """
    past = state.recall(conv)
    kept = empty_clip(x, conv.front, *x.shape[3:]) if past is None and state.more else past
    if out is None:
        out = empty_clip(x, 1, *x.shape[3:], channels=conv.conv.out_channels)
    weight, bias, (_, zeros, _) = conv.conv.weight, conv.conv.bias, conv.conv.padding

    def finish(columns: slice, fed: Tensor) -> None:
        out[..., columns] = convolve_clip(fed, weight, bias, padding=(0, zeros, 0))
        if state.more:
            pad, side = conv.conv.kernel_size[2] // 2, conv.border
            rows = slice(side, side + x.shape[3])
            kept[..., columns] = fed[:, :, 1:, rows, pad : fed.shape[4] - pad]

    before = None
    for columns in bands_of(conv, x):
        fed = _fed(conv, write, x, past, columns)
        if before:
            finish(*before)
        before = columns, fed
    finish(*before)
    if state.more:
        state.keep(conv, kept)
    return out


def bands_of(conv: CausalConv3d, x: Tensor) -> Iterator[slice]:
    """The columns of each band of a frame: so many that BAND_BYTES hold what the convolution is fed for them.

    Columns, not rows: with few rows PyTorch takes a slow way to convolve (see footprint.unfolded_bytes).
    """
    width, column_bytes = x.shape[4], (conv.front + 1) * x[..., :1].nbytes
    each = max(1, BAND_BYTES // column_bytes)
    for first in range(0, width, each):
        yield slice(first, min(first + each, width))


def _fed(conv: CausalConv3d, write: Write, x: Tensor, past: Tensor | None, columns: slice) -> Tensor:
    """What the convolution sees for a band of a frame `x`: the frames before, and a column on each side."""
    height, width = x.shape[3:]
    front, pad, side = conv.front, conv.conv.kernel_size[2] // 2, conv.border
    left, right = max(0, columns.start - pad), min(width, columns.stop + pad)
    fed = empty_clip(x, front + 1, height + 2 * side, columns.stop - columns.start + 2 * pad)
    before, after = left - columns.start + pad, columns.stop + pad - right
    place = fed[:, :, :, side : side + height, before : fed.shape[4] - after]
    write(x[..., left:right], place[:, :, front:])
    if past is None:
        conv.lead(place, front)
    else:
        place[:, :, :front] = past[..., left:right]
    if side:
        conv.surround(fed, left=before > 0, right=after > 0)
    else:
        fed[..., :before] = 0
        fed[..., fed.shape[4] - after :] = 0
    return fed


@dataclass(frozen=True)
class RowBand:
    """Rows of a frame: those that are a band's `own`, and all that it has `seen` to make them."""

    own: slice
    seen: slice

    @property
    def given(self) -> slice:
        """Which of the rows that it has seen are its own."""
        return slice(self.own.start - self.seen.start, self.own.stop - self.seen.start)

    def times(self, count: int) -> "RowBand":
        """The same band where there are `count` rows for each of these."""
        own, seen = (slice(rows.start * count, rows.stop * count) for rows in (self.own, self.seen))
        return RowBand(own, seen)


def cut_into_rows(x: Tensor, state: TimeState, height: int, most: int, beside: int) -> list[RowBand]:
    """Bands of at most `most` of `height` rows, all about as high, that see `beside` rows on each side.

    It is one band with gradients, and where frames are not divided.
    """
    divided = divides(x, state) and not torch.is_grad_enabled()
    each = -(-height // -(-height // max(1, most))) if divided else height
    tops = range(0, height, each)
    owned = [slice(top, min(top + each, height)) for top in tops]
    return [RowBand(own, slice(max(0, own.start - beside), min(own.stop + beside, height))) for own in owned]


class BandStates:
    """What the layers remember of each band of a clip whose frames are cut into so many."""

    def __init__(self, count: int) -> None:
        self._states = [TimeState() for _ in range(count)]

    def for_call(self, clip: TimeState) -> list[TimeState]:
        """The state of each band, told whether the clip goes on."""
        for state in self._states:
            state.more = clip.more
        return self._states

    @property
    def nbytes(self) -> int:
        """Bytes held between calls."""
        return sum(state.nbytes for state in self._states)
