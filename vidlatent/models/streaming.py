"""Layers for networks that stream: what they need of the past of a clip is in the `TimeState` they are given.

A call may bring any number of frames, even none, and gives the frames that are known by then.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidlatent.models.bands import convolve_bands, suits_bands
from vidlatent.models.causal import TimeState, in_parts, joined, whole
from vidlatent.models.clips import as_clip, as_frames, empty_clip
from vidlatent.models.convolution import CausalConv3d, FrameConv2d, owed
from vidlatent.models.layers import attend, frame_attention
from vidlatent.models.narrowing import narrows, sum_planes
from vidlatent.models.norms import Biased, GroupNorm, RmsNorm
from vidlatent.models.passes import add, fed_channels
from vidlatent.models.subpixel import enlarge_frames

Norm = Callable[[int], nn.Module]  # of so many channels
PART_BYTES = 1 << 26  # of a clip that is convolved at once, if it is larger
GPU_PART_BYTES = 1 << 30  # the same on a GPU: each part costs copies of the frames before it


class ChannelNorm(nn.Module):
    """Norm over the channels of each position by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [B, C, T, H, W]."""
        return self.norm(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)

    def silu(self, x: Tensor) -> Tensor:
        """Normalise and apply x·sigmoid(x)."""
        return F.silu(self(x), inplace=True)

    def silu_into(self, x: Tensor, out: Tensor) -> Tensor:
        """Normalise and apply x·sigmoid(x) into `out`, a clip or view of a clip like `x`."""
        return F.silu(out.copy_(self(x)), inplace=True)


class DelayedConv3d(CausalConv3d):
    """3-D convolution that sees one frame before and one after: it gives a frame when the next one is known.

    Beyond the ends of a clip are copies of its first frame and of its last. See `cascade` for the latter.
    """

    ahead = 1


class Still(FrameConv2d):
    """2-D convolution of every frame, in a list of layers that take the state."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, 1, 1)

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → [B, C', T, H, W]."""
        return super().forward(x) if x.shape[2] else nothing(self, x)


class ResBlock(nn.Module):
    """Norm, SiLU and convolution, twice, added to the input; `guides` are what its norms are told besides."""

    def __init__(self, conv: type[CausalConv3d | FrameConv2d], inputs: int, outputs: int, norm: Norm) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(inputs), norm(outputs)
        self.conv1, self.conv2 = conv(inputs, outputs, 3, 1, 1), conv(outputs, outputs, 3, 1, 1)
        self.nin_shortcut = None if inputs == outputs else conv(inputs, outputs, 1, 1, 0)
        self.conv1.owes, self.conv2.owes = isinstance(self.norm2, GroupNorm | RmsNorm), True

    def forward(self, x: Tensor, state: TimeState, *guides: Tensor) -> Tensor:
        """[B, C, T, H, W] → [B, C', T, H, W]."""
        h = normalise_and_convolve(self.norm1, self.conv1, x, state, *guides)
        norm2 = Biased(self.norm2, owed(self.conv1, h)) if self.conv1.owes else self.norm2
        h = normalise_and_convolve(norm2, self.conv2, h, state, *guides, over=True)
        if self.nin_shortcut is None:
            return add(h, x, owed(self.conv2, h))
        for part, its in zip(split_frames(h, state), split_frames(x, state, h.shape[1]), strict=True):
            add(part, convolve(self.nin_shortcut, its, state), owed(self.conv2, h))
        return h


class Attention(nn.Module):
    """Attention over the positions of each frame, one head, added to the input."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (CausalConv3d(channels, channels, 1, 1, 0) for _ in range(4))

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → the same."""
        if not x.shape[2]:
            return x
        h = self.norm(x)
        mixed = frame_attention(*(as_frames(layer(h)) for layer in (self.q, self.k, self.v)))
        return self.proj_out(as_clip(mixed, len(x))).add_(x)


class PastAttention(nn.Module):
    """Attention of each position to all positions of its own frame and the frames before, added to the input.

    One head, frame by frame, so that no mask of all positions against all is ever made. What the state
    keeps of each frame, its keys and values, grows with the clip, as far as `TimeState.past` allows.
    """

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.to_q, self.to_k, self.to_v, self.proj_out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → the same, in the place of `x`."""
        if not x.shape[2]:
            return x
        tokens = self.norm(x).permute(0, 2, 3, 4, 1).flatten(2, 3)  # [B, T, H·W, C]
        seen = state.growing(self)
        for frame, target in zip(tokens.unbind(1), x.permute(0, 2, 3, 4, 1).unbind(1), strict=True):
            seen.append((self.to_k(frame), self.to_v(frame)))
            target += self.proj_out(attend(self.to_q(frame), seen)).view_as(target)
        return x


class Down(nn.Module):
    """Halve the frame, and the frame rate if 3-D, by a strided convolution with zeros right and below."""

    def __init__(self, conv: CausalConv3d | FrameConv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → [B, C, T', H/2, W/2], rounded down."""
        return convolve(self.conv, F.pad(x, (0, 1, 0, 1)), state)


class Up(nn.Module):
    """Double the frame by nearest neighbours, then convolve each: a kernel of 3×3, zeros around it."""

    def __init__(self, conv: FrameConv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → [B, C, T, 2H, 2W]."""
        if not x.shape[2]:
            return nothing(self.conv, x, zoom=2)
        return enlarge_frames(x, self.conv.weight, self.conv.bias)


class TimeUp(nn.Module):
    """Double the frame and the frame rate by interpolation, then convolve.

    The first frame of the clip is not doubled. Linearly, each of the others becomes two: 3/4 of
    itself and 1/4 of the one before, then 1/4 of the one after; so while the clip goes on, the
    second of the last pair waits for the next call.
    """

    def __init__(self, conv: CausalConv3d, linear: bool) -> None:
        super().__init__()
        self.conv, self.linear = conv, linear

    def forward(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → [B, C, T', 2H, 2W]; all calls for T frames together give 2T-1."""
        first = 1 if x.shape[2] and state.begins(self) else 0
        frames, x = [x[:, :, :first]], x[:, :, first:]
        frames += self._linear(x, state) if self.linear else [x.repeat_interleave(2, dim=2)]
        x = torch.cat(frames, dim=2)  # small still: what the convolution needs in front is enlarged again
        return convolve(self.conv, x, state, enlarge="bilinear")

    def _linear(self, x: Tensor, state: TimeState) -> list[Tensor]:
        """Both frames of each pair, as far as they are known."""
        past = state.recall(self)
        known = x if past is None else torch.cat([past, x], dim=2)
        if not known.shape[2]:
            return []
        state.remember(self, known[:, :, -1:])
        before, after = known[:, :, :-1], known[:, :, 1:]
        pairs = torch.stack([before.lerp(after, 0.25), before.lerp(after, 0.75)], dim=3).flatten(2, 3)
        first = [known[:, :, :1]] if past is None else []
        last = [] if state.more else [known[:, :, -1:]]
        return [*first, pairs, *last]


def convolve(conv: CausalConv3d | FrameConv2d, x: Tensor, state: TimeState, enlarge: str = "") -> Tensor:
    """Convolve a clip [B, C, T, H, W] that `state` continues, its frames first enlarged if so asked.

    A causal convolution keeps there what it needs later; what is too little for an output gives none.
    """
    kernel, seen = conv.front + 1, x
    if isinstance(conv, CausalConv3d) and conv.border:
        seen, place = conv.room(x, front=0)
        place.copy_(x)
        conv.surround(seen)
    if kernel > 1 and x.shape[2]:
        seen = state.extend(conv, seen, kernel, conv.conv.stride[0], conv.lead)
    if seen.shape[2] < kernel:
        return nothing(conv, x, zoom=2 if enlarge else 1)
    if enlarge:
        seen = as_clip(F.interpolate(as_frames(seen), scale_factor=2.0, mode=enlarge), len(seen))
    return conv.ready(seen)


def normalise_and_convolve(
    norm: nn.Module,
    conv: CausalConv3d | FrameConv2d,
    x: Tensor,
    state: TimeState,
    *guides: Tensor,
    over: bool = False,
) -> Tensor:
    """Norm, SiLU and a convolution that keeps the number of frames: [B, C, T, H, W] → [B, C', T, H, W].

    `guides` are what the norm is told besides `x`. A large clip goes through in parts of a few frames, so
    that all of it is never there both as it is and normalised; a large frame goes in bands. With `over` the
    result takes its place.
    """
    if guides:
        return write_and_convolve(lambda place: norm.silu_into(x, place, *guides), conv, x, state)
    if isinstance(norm, GroupNorm | Biased):
        norm = norm.fitted(x)  # the others know one position at a time

    def convolve_part(part: Tensor, state: TimeState) -> Tensor:
        if suits_bands(conv, part, PART_BYTES, state) and not narrows(conv, part):
            return convolve_bands(conv, norm.silu_into, part, state, part if over else None)
        return write_and_convolve(lambda place: norm.silu_into(part, place), conv, part, state)

    parts = in_parts(convolve_part, split_frames(x, state), state)
    return joined(parts, x.shape[2], x if over else None)


def split_frames(x: Tensor, state: TimeState, channels: int | None = None) -> tuple[Tensor, ...]:
    """Views of a clip [B, C, T, H, W], so many frames each as have PART_BYTES, with so many `channels`."""
    part_bytes = GPU_PART_BYTES if state.on_gpu(x) else PART_BYTES
    frame_bytes = len(x) * (channels or x.shape[1]) * x.shape[3:].numel() * x.element_size()
    return x.split(max(1, part_bytes // max(1, frame_bytes)), dim=2)


def write_and_convolve(
    write: Callable[[Tensor], object], conv: CausalConv3d | FrameConv2d, like: Tensor, state: TimeState
) -> Tensor:
    """A convolution, in time without stride, of what `write` puts into a place for a clip of `like`'s shape.

    So a norm writes straight into the convolution's input, behind the frames that `state` remembers, and
    nothing is copied or joined.
    """
    if not like.shape[2]:
        return nothing(conv, like)
    if isinstance(conv, FrameConv2d):
        write(place := empty_clip(like, *like.shape[2:]))
        return conv.ready(place)
    if narrows(conv, like):
        room, place = conv.room(like, front=0)
        write(place)
        conv.surround(room)
        return sum_planes(conv, room, state)
    front = conv.front if state.knows(conv) else conv.front - conv.ahead
    room, place = conv.room(like, front, fed_channels(like, state.on_gpu(like)))
    write(place)
    conv.surround(room)
    if conv.front:
        state.precede(conv, room, front, conv.lead, keep=conv.front)
    return conv.ready(room) if room.shape[2] > conv.front else nothing(conv, like)


def nothing(conv: CausalConv3d | FrameConv2d, x: Tensor, zoom: int = 1) -> Tensor:
    """What `conv` makes of no frames, their sides times `zoom` before: [B, C', 0, H', W']."""
    plain, border = (conv.conv, conv.border) if isinstance(conv, CausalConv3d) else (conv, 0)
    geometry = zip(x.shape[3:], plain.kernel_size[-2:], plain.stride[-2:], plain.padding[-2:], strict=True)
    sides = [(side * zoom + 2 * (pad + border) - kernel) // step + 1 for side, kernel, step, pad in geometry]
    return x.new_empty(len(x), plain.out_channels, 0, *sides)


def last_of(
    conv: CausalConv3d, state: TimeState, then: Callable[[Tensor], Tensor] = lambda frame: frame
) -> Iterator[Tensor]:
    """What `then` makes of the frame that a convolution holds back of a clip that has ended, if it does.

    No tensor is kept here while the caller works on that.
    """
    past = state.recall(conv) if conv.ahead else None
    if past is not None:
        made = [then(_last(conv, past))]
        del past
        yield made.pop()


def _last(conv: CausalConv3d, past: Tensor) -> Tensor:
    """A convolution's last frame [B, C', 1, H, W]: its own last input stands for what would follow."""
    room = empty_clip(past, conv.front + 1, *past.shape[3:])
    room[:, :, :-1] = past
    room[:, :, -1:] = past[:, :, -1:]
    return conv.ready(room)


class Delayed(Protocol):
    """A layer that may hold frames back, and gives them when its clip has ended."""

    def __call__(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → [B, C', T', H', W'], the frames that are known by now."""
        ...

    def rest(self, state: TimeState) -> Iterator[Tensor]:
        """The frames that were held back, in pieces."""
        ...


@dataclass(frozen=True)
class Convolution:
    """A convolution as a layer of a cascade; `write` puts what it is fed into a place, as for a norm."""

    conv: CausalConv3d
    write: Callable[[Tensor, Tensor], object]

    def __call__(self, x: Tensor, state: TimeState) -> Tensor:
        """[B, C, T, H, W] → [B, C', T', H, W]."""
        return write_and_convolve(lambda place: self.write(x, place), self.conv, x, state)

    def rest(self, state: TimeState) -> Iterator[Tensor]:
        """The frame that is held back."""
        return last_of(self.conv, state)


def into(conv: CausalConv3d) -> Convolution:
    """A convolution of what it is given, copied once, to where it stands behind the frames remembered."""
    return Convolution(conv, lambda x, place: place.copy_(x))


def cascade(layers: Iterable[Delayed], x: Tensor, state: TimeState) -> Iterator[Tensor]:
    """One layer after the other, and at the end of a clip what they still hold, in small pieces.

    Each layer is emptied when the one before it is, and what it gives goes on alone through those behind it.
    In one call for all of them, the frames held back at every layer would meet at full resolution.
    """
    pieces, more = iter([x]), state.more
    for layer in layers:
        pieces = map(partial(layer, state=state), pieces)  # which keeps no piece while the next layers work
        pieces = pieces if more else chain(pieces, layer.rest(state))
    state.more = True  # for a layer's clip has not ended until the one before it is empty
    yield from pieces
    state.more = more


def run(layers: Iterable[nn.Module], x: Tensor, state: TimeState) -> Tensor:
    """One layer after the other."""
    for layer in layers:
        x = layer(x, state)
    return x


def shrink(layers: Sequence[nn.Module], x: Tensor, state: TimeState, channels: int | None = None) -> Tensor:
    """One layer after the other, for layers that give less than they take: in parts, if the clip is large.

    Then all that is there in whole is `x` [B, C, T, H, W], and what the layers make of it. `channels` is how
    many the largest clip on the way has, where that is more than `x` has.
    """
    return whole(in_parts(partial(run, layers), split_frames(x, state, channels), state))


def grow(
    layers: Sequence[Callable[[Tensor, TimeState], Tensor]], x: Tensor, state: TimeState
) -> Iterator[Tensor]:
    """One layer after the other, for layers that give more than they take; what comes out, in pieces.

    A clip that has become large goes on in parts, each of them through all layers that are left before the
    next one. So what is largest, shortly before the end, is never there in whole.
    """
    for n, layer in enumerate(layers):
        parts = split_frames(x, state)
        if len(parts) > 1:
            copies = [part.clone() for part in parts]  # of which each can go once it has been used
            pieces = in_parts(partial(grow, layers[n:]), copies, state)
            del x, parts, copies
            yield from chain.from_iterable(pieces)
            return
        del parts  # which would keep `x` while what is made of it goes on
        x = layer(x, state)
    yield x
