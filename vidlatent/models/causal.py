"""The clip so far, as a causal network remembers it: the only stateful arithmetic in the house."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

P = TypeVar("P")


class TimeState:
    """What each layer must remember of one clip between two calls; a fresh one begins a clip.

    `more` says that the clip goes on after the next call. A whole clip in one call is `TimeState()`.
    State is an argument: modules hold weights only, so clips may interleave and errors leave nothing.
    """

    def __init__(self, more: bool = False) -> None:
        self.more = more
        self._kept: dict[nn.Module, Tensor] = {}
        self._begun: set[nn.Module] = set()

    def extend(self, layer: nn.Module, x: Tensor, kernel: int, stride: int = 1) -> Tensor:
        """`x` [B, C, T, H, W] with the frames in front that a causal kernel still needs.

        At the start of a clip those are kernel-1 copies of the first frame; later, what the layer
        has seen but not yet stepped over.
        """
        past = self.recall(layer)
        if past is None:
            past = x[:, :, :1].expand(-1, -1, kernel - 1, -1, -1)
        known = torch.cat([laid_out_like(x, past), x], dim=2) if past.shape[2] else x
        if self.more:
            outputs = max(0, (known.shape[2] - kernel) // stride + 1)
            self.remember(layer, known[:, :, outputs * stride :])
        return known

    def recall(self, layer: nn.Module) -> Tensor | None:
        """Take what `layer` remembered; None at the start of a clip."""
        return self._kept.pop(layer, None)

    def remember(self, layer: nn.Module, x: Tensor) -> None:
        """Keep a copy of `x` for `layer` until the next call, if the clip goes on."""
        if self.more:
            self._kept[layer] = x.clone()

    def begins(self, layer: nn.Module) -> bool:
        """Whether this is the first call of the clip that `layer` sees."""
        first = layer not in self._begun
        if self.more:
            self._begun.add(layer)
        return first

    @property
    def started(self) -> bool:
        """Whether any layer has already seen a part of this clip."""
        return bool(self._kept)

    @property
    def nbytes(self) -> int:
        """Bytes held between calls."""
        return sum(x.numel() * x.element_size() for x in self._kept.values())


def in_parts(
    apply: Callable[[P, TimeState], Tensor], parts: Sequence[P], state: TimeState
) -> Iterator[Tensor]:
    """What `apply` makes of each part of a clip, in turn.

    Several parts are several calls, so the state must carry between them whether or not the clip goes on.
    """
    more = state.more
    for i, part in enumerate(parts, start=1):
        state.more = more or i < len(parts)
        yield apply(part, state)


def joined(parts: Iterable[Tensor], frames: int) -> Tensor:
    """Parts of a clip as one [B, C, frames, H, W], channels-last; they are taken one by one."""
    whole, done = None, 0
    for part in parts:
        if part.shape[2] == frames:
            return part
        if whole is None:
            batch, channels, _, *sides = part.shape
            whole = part.new_empty(batch, frames, *sides, channels).movedim(-1, 1)
        whole[:, :, done : done + part.shape[2]] = part
        done += part.shape[2]
    return whole


def laid_out_like(x: Tensor, past: Tensor) -> Tensor:
    """`past` in the memory layout of `x`, lest joining them turn channels-last activations around."""
    channels_last = x.is_contiguous(memory_format=torch.channels_last_3d)
    return past.contiguous(memory_format=torch.channels_last_3d) if channels_last else past
