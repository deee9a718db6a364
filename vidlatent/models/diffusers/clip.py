"""A clip on its way through a class of diffusers: what is kept of it between chunks, and how it is cut.

The classes give a whole clip at once, and keep what they remember of it on themselves, if they stream at all.
Here the memory of a clip is in its `TimeState`, so clips may interleave and an error leaves nothing behind.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from vidlatent.errors import BadInput
from vidlatent.models.base import ModelSpec
from vidlatent.models.causal import TimeState


class Network(Protocol):
    """A model whose network is an instance of a class of diffusers."""

    spec: ModelSpec
    vae: nn.Module


Drive = Callable[[Network, Tensor, TimeState], Iterator[Tensor]]


class ClipMemory:
    """What is kept of a clip between calls: inputs that wait, outputs to be blended, a class's own caches."""

    def __init__(self) -> None:
        self.taken = 0  # inputs that have gone in
        self.held: Tensor | None = None
        self.caches: Mapping = {}
        self._waiting: Tensor | None = None

    @classmethod
    def of(cls, network: Network, state: TimeState) -> "ClipMemory":
        """The memory of the clip that `state` is of."""
        return state.once(network.vae, cls)

    def add(self, x: Tensor) -> None:
        """Let the inputs [B, C, T, H, W] wait behind those that do."""
        self._waiting = x.clone() if self._waiting is None else torch.cat([self._waiting, x], dim=2)

    @property
    def waiting(self) -> int:
        """How many inputs wait."""
        return 0 if self._waiting is None else self._waiting.shape[2]

    def first(self, count: int) -> Tensor:
        """The first inputs that wait, which go on waiting."""
        return self._waiting[:, :, :count]

    def take(self, count: int) -> Tensor:
        """The first inputs that wait, which then have gone in."""
        chunk, self._waiting = self._waiting[:, :, :count], self._waiting[:, :, count:].clone()
        self.taken += chunk.shape[2]
        return chunk

    def hold(self, chunk: Tensor, count: int) -> Tensor:
        """The outputs of a chunk but for its last `count`, which are held until `cross_fade`."""
        self.held = chunk[:, :, chunk.shape[2] - count :].clone()
        return chunk[:, :, : chunk.shape[2] - count]

    def release(self) -> Iterator[Tensor]:
        """The outputs that are held, if there are any."""
        if self.held is not None:
            yield self.held

    def cross_fade(self, chunk: Tensor) -> Tensor:
        """A chunk whose first outputs are mixed with those that were held, 0, 1/n, 2/n … of the chunk."""
        if self.held is None:
            return chunk
        count = self.held.shape[2]
        weight = (torch.arange(count, device=chunk.device, dtype=chunk.dtype) / count).view(-1, 1, 1)
        mixed = self.held * (1 - weight) + chunk[:, :, :count] * weight
        return torch.cat([mixed, chunk[:, :, count:]], dim=2)

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        return sum(tensor.nbytes for tensor in tensors_in([self._waiting, self.held, self.caches]))


def tensors_in(value: object) -> Iterator[Tensor]:
    """All tensors in nested lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from tensors_in(each)


def chunks(memory: ClipMemory, x: Tensor, sizes: tuple[int, int], step: int, more: bool) -> Iterator[Tensor]:
    """A clip in a first chunk and equal ones after it, of so many inputs, as soon as they are there.

    At its end comes what is left, as far as it fills outputs: the first input fills one, then `step` do.
    """
    memory.add(x)
    while memory.waiting >= (size := sizes[bool(memory.taken)]):
        yield memory.take(size)
    if not more and (count := memory.waiting):
        lead = 0 if memory.taken else 1
        left = lead + (count - lead) // step * step
        if left:
            yield memory.take(left)


@contextmanager
def lent(part: nn.Module, name: str, memory: ClipMemory, keep: Callable[[nn.Module, Tensor], Tensor]):
    """The caches of a class that has them on its layers, as the attribute `name`: while the block runs.

    They are those of the clip, and afterwards in its memory again, as much of each as `keep` says.
    """
    layers = [layer for layer in part.modules() if name in vars(layer)]
    try:
        for layer in layers:
            setattr(layer, name, memory.caches.get(layer))
        yield
        memory.caches = {
            layer: keep(layer, getattr(layer, name)) for layer in layers if getattr(layer, name) is not None
        }
    finally:
        for layer in layers:
            setattr(layer, name, None)


def without_logvar(mean: Tensor, logvar: float) -> Tensor:
    """Moments [B, 2C, t, h, w] of latents that are certain."""
    return torch.cat([mean, torch.full_like(mean, logvar)], dim=1)


def demand_rest(memory: ClipMemory, rest: int, spec: ModelSpec) -> None:
    """Raise BadInput where a clip ends so that the class would leave a part of it out."""
    if memory.waiting != rest:
        raise BadInput(
            f"{spec.name} cannot end a clip here: {memory.taken + memory.waiting} frames or latents",
            f"give {spec.grid.least} + {spec.grid.stride}·k frames, "
            f"or {spec.grid.latents(spec.grid.least)} + {spec.grid.latents(spec.grid.stride)}·k latents",
        )
