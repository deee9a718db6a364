"""The clip so far, as a causal network remembers it: the only stateful arithmetic in the house."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

P = TypeVar("P")
R = TypeVar("R")


class Sized(Protocol):
    """A tensor, or what else a layer keeps of a clip, that says how many bytes it takes."""

    nbytes: int


M = TypeVar("M", bound=Sized)

# What stands before a clip: fills the first frames of a clip [B, C, T, H, W], so many of them, in place.
Lead = Callable[[Tensor, int], None]


def copies_of_the_first(room: Tensor, front: int) -> None:
    """Fill the first `front` frames with copies of the frame behind them."""
    room[:, :, :front] = room[:, :, front : front + 1]


def zeros(room: Tensor, front: int) -> None:
    """Fill the first `front` frames with zeros."""
    room[:, :, :front] = 0


class TimeState:
    """What each layer must remember of one clip between two calls; a fresh one begins a clip.

    `more` says that the clip goes on after the next call. A whole clip in one call is `TimeState()`.
    `past` is how many latents back a layer may look whose memory grows with the clip; 0 is all. Without `cpu`
    a network that is only measured, on the device "meta", goes as it will on a GPU: in larger parts.
    State is an argument: modules hold weights only, so clips may interleave and errors leave nothing.
    """

    def __init__(self, more: bool = False, past: int = 0, cpu: bool = True) -> None:
        self.more = more
        self.past = past
        self.cpu = cpu
        self._kept: dict[nn.Module, Tensor] = {}
        self._grown: dict[nn.Module, deque[tuple[Tensor, ...]]] = {}
        self._made: dict[nn.Module, Sized] = {}
        self._begun: set[nn.Module] = set()

    def on_gpu(self, x: Tensor) -> bool:
        """Whether `x` is on a GPU, or stands for a clip that will be."""
        return x.is_cuda or not self.cpu

    def precede(
        self,
        layer: nn.Module,
        room: Tensor,
        front: int,
        lead: Lead = copies_of_the_first,
        keep: int | None = None,
    ) -> None:
        """Fill the first `front` frames of `room` [B, C, front + T, H, W] with those that came before.

        The other T frames are there already. At the start of a clip `lead` fills in; later, the last frames
        of the call before. So the input of a causal convolution is put together once, where it is needed.
        `keep` frames are remembered, where that is another number than `front`.
        """
        past = self.recall(layer)
        if past is None:
            lead(room, front)
        else:
            room[:, :, :front] = past
        if self.more:
            tail = room[:, :, room.shape[2] - (front if keep is None else keep) :]
            self._kept[layer] = tail.clone() if past is None else past.copy_(tail)

    def extend(
        self,
        layer: nn.Module,
        x: Tensor,
        kernel: int,
        stride: int = 1,
        lead: Lead | None = copies_of_the_first,
    ) -> Tensor:
        """`x` [B, C, T, H, W] with the frames in front that a causal kernel still needs.

        At the start of a clip `lead` makes kernel-1 of them, or none if it is None; later, they are what the
        layer has seen but not yet stepped over.
        """
        past = self.recall(layer)
        front = past.shape[2] if past is not None else kernel - 1 if lead else 0
        known = room_for(x, front)
        if front and past is None:
            lead(known, front)
        elif front:
            known[:, :, :front] = past
        if self.more:
            outputs = max(0, (known.shape[2] - kernel) // stride + 1)
            self.remember(layer, known[:, :, outputs * stride :])
        return known

    def wait(self, layer: nn.Module, x: Tensor | None, frames: int) -> list[Tensor]:
        """The next `frames` frames of a path that runs beside a slower one, in parts; the rest is kept.

        `x` [B, C, T, H, W] are the frames that arrive now, None if no more do.
        """
        due, early = [], []
        for part in (self.recall(layer), x):
            if part is not None and part.shape[2]:
                due.append(part[:, :, :frames])
                early.append(part[:, :, frames:])
                frames -= due[-1].shape[2]
        early = [part for part in early if part.shape[2]]
        if early:
            self.remember(layer, early[0] if len(early) == 1 else torch.cat(early, dim=2))
        return due

    def once(self, layer: nn.Module, make: Callable[[], M]) -> M:
        """What `make` gives at the first call of the clip: one value for `layer` and the whole clip."""
        if layer not in self._made:
            self._made[layer] = make()
        return self._made[layer]

    def knows(self, layer: nn.Module) -> bool:
        """Whether `layer` remembers anything of this clip."""
        return layer in self._kept

    def recall(self, layer: nn.Module) -> Tensor | None:
        """Take what `layer` remembered; None at the start of a clip."""
        return self._kept.pop(layer, None)

    def remember(self, layer: nn.Module, x: Tensor) -> None:
        """Keep a copy of `x` for `layer` until the next call, if the clip goes on."""
        if self.more:
            self._kept[layer] = x.clone()

    def keep(self, layer: nn.Module, x: Tensor) -> None:
        """Keep `x` itself for `layer` until the next call; nobody else may write to it."""
        self._kept[layer] = x

    def growing(self, layer: nn.Module) -> deque[tuple[Tensor, ...]]:
        """What `layer` has kept of each frame so far, oldest first, for it to add to; at most `past` frames.

        This is all that may grow with a clip. The tensors are kept as they come, not copied.
        """
        if not self.more:
            return self._grown.pop(layer, deque(maxlen=self.past or None))
        return self._grown.setdefault(layer, deque(maxlen=self.past or None))

    def begins(self, layer: nn.Module) -> bool:
        """Whether this is the first call of the clip that `layer` sees."""
        first = layer not in self._begun
        if self.more:
            self._begun.add(layer)
        return first

    @property
    def started(self) -> bool:
        """Whether any layer has already seen a part of this clip."""
        return bool(self._kept or self._grown)

    @property
    def nbytes(self) -> int:
        """Bytes held between calls."""
        grown = chain.from_iterable(chain.from_iterable(self._grown.values()))
        return sum(x.nbytes for x in chain(self._kept.values(), self._made.values(), grown))


def in_parts(apply: Callable[[P, TimeState], R], parts: Sequence[P], state: TimeState) -> Iterator[R]:
    """What `apply` makes of each part of a clip, in turn.

    Several parts are several calls, so the state must carry between them whether or not the clip goes on. No
    part is kept here once it has been used.
    """
    more, rest = state.more, deque(parts)
    del parts
    while rest:
        state.more = more or len(rest) > 1
        yield apply(rest.popleft(), state)


def whole(pieces: Iterable[Tensor]) -> Tensor:
    """The pieces of a clip, which a network gives one by one, as one [B, C, T, H, W]."""
    parts = list(pieces)
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def joined(parts: Iterable[Tensor], frames: int, whole: Tensor | None = None) -> Tensor:
    """Parts of a clip as one [B, C, frames, H, W], channels-last; they are taken one by one.

    Several are written over `whole` if it is given, one alone is the result as it is.
    """
    done = 0
    for part in parts:
        if part.shape[2] == frames:
            return part
        if whole is None:
            batch, channels, _, *sides = part.shape
            whole = part.new_empty(batch, frames, *sides, channels).movedim(-1, 1)
        whole[:, :, done : done + part.shape[2]] = part
        done += part.shape[2]
    return whole


def room_for(x: Tensor, front: int) -> Tensor:
    """`x` [B, C, T, H, W] with `front` frames before it that are still to be filled; `x` itself without."""
    if not front:
        return x
    batch, channels, frames, *sides = x.shape
    if x.is_contiguous(memory_format=torch.channels_last_3d):
        room = x.new_empty(batch, front + frames, *sides, channels).movedim(-1, 1)
    else:
        room = x.new_empty(batch, channels, front + frames, *sides)
    room[:, :, front:] = x
    return room
