"""Gathers latents until as many are there as are coded together."""

from collections.abc import Iterator

import torch
from torch import Tensor


class Gatherer:
    """Latents on their way into a file: they come in pieces of any length, and go on in chunks of one.

    Without a length they go on as they come. `stop` is the number of the latent that is to come next.
    """

    def __init__(self, length: int | None) -> None:
        self._length = length
        self.restart()

    def restart(self) -> None:
        """Drop what is held, and begin with latent 0."""
        self._held: list[Tensor] = []
        self.stop = 0

    def add(self, at: int, latents: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Take latents [t, …] from number `at` on; what can go on by now, with the number of its first.

        `at` is where the last piece ended, or else the beginning of any chunk.
        """
        if at != self.stop:
            if at % (self._length or 1):
                raise ValueError(f"latents from {at} on, expected them from {self.stop} on")
            self._held = []
        self.stop = at + len(latents)
        if self._length is None:
            yield at, latents
            return
        self._held.append(latents)
        held = torch.cat(self._held)
        begin = self.stop - len(held)
        while len(held) >= self._length:
            yield begin, held[: self._length].contiguous()
            held, begin = held[self._length :], begin + self._length
        self._held = [held.clone()] if len(held) else []

    def rest(self) -> Iterator[tuple[int, Tensor]]:
        """What is left at the end of the clip: less than a chunk."""
        if self._held:
            held = torch.cat(self._held)
            self._held = []
            yield self.stop - len(held), held
