"""Gathers latents until as many are there as are coded together."""

from collections.abc import Iterator

import torch
from torch import Tensor

from vidlatent.io.coded.chunks import Chunks


class Gatherer:
    """Latents on their way into a file: they come in pieces of any length, and go on in `chunks`.

    Without these they go on as they come. `stop` is the number of the latent that is to come next.
    """

    def __init__(self, chunks: Chunks | None) -> None:
        self._chunks = chunks
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
            if self._chunks and at % self._chunks.length:
                raise ValueError(f"latents from {at} on, expected them from {self.stop} on")
            self._held = []
        self.stop = at + len(latents)
        if self._chunks is None:
            yield at, latents
            return
        self._held.append(latents)
        held = torch.cat(self._held)
        begin = self.stop - len(held)
        sure, length = self._chunks.settle(len(held)), self._chunks.length
        for start in range(0, sure, length):
            yield begin + start, held[start : start + length].contiguous()
        self._held = [held[sure:].clone()] if sure < len(held) else []

    def rest(self) -> Iterator[tuple[int, Tensor]]:
        """What is left at the end of the clip."""
        if not self._held:
            return
        held, self._held = torch.cat(self._held), []
        for start, stop in self._chunks.spans(len(held)):
            yield self.stop - len(held) + start, held[start:stop].contiguous()
