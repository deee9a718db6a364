"""Codes whose chunks are of varying length: where each ends, and how a span is read from whole chunks."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from vidlatent.io.coded.chunks import SIXTEEN, Chunks
from vidlatent.io.coded.form import CODES, Kind, Shape

ENDS = "ends"  # the side tensor: how many bytes of codes there are with each chunk
MAX_CHUNK_VALUES = 1 << 28  # 16 latent frames of 8192x8192 pixels with 16 channels at an eighth
MAX_VALUES_PER_BYTE = 1 << 15  # more than any coder here saves, even of a clip that is black throughout


def chunk_kinds(shape: Shape, size: int, chunks: Chunks = SIXTEEN) -> dict[str, Kind]:
    """The codes and the ends of `chunks`, for latents of a shape in `size` bytes.

    Raises where so few bytes cannot hold so much: a reader would ask for memory before it finds that out.
    """
    refuse_large(shape, chunks)
    t, channels, h, w = shape
    if t * channels * h * w > size * MAX_VALUES_PER_BYTE:
        raise ValueError(f"{list(shape)} in {size} bytes: more than 2^15 values in a byte")
    return {CODES: ("U8", (size,)), ENDS: ("I64", (chunks.count(t),))}


def refuse_large(shape: Sequence[int], chunks: Chunks = SIXTEEN) -> None:
    """Raise ValueError for latents [t, C, h, w] that have a chunk larger than readers take."""
    t, channels, h, w = shape
    if min(t, chunks.length) * channels * h * w > MAX_CHUNK_VALUES:
        raise ValueError(f"{list(shape)}: {chunks.length} latent frames have more than 2^28 values")


class OpenedChunks:
    """Latents [t, C, h, w] in `chunks`, which `decode` turns into latents.

    It is given the codes of a chunk, and the shape [t, C, h, w] that it must have.

    The chunk that was decoded last is kept, because the next span mostly begins in it.
    """

    def __init__(
        self,
        shape: Shape,
        size: int,
        sides: Mapping[str, np.ndarray],
        dtype: torch.dtype,
        decode: Callable[[np.ndarray, tuple[int, ...]], Tensor],
        chunks: Chunks = SIXTEEN,
    ) -> None:
        self._shape, self._dtype, self._decode, self._chunks = shape, dtype, decode, chunks
        self._ends = np.concatenate([np.zeros(1, np.int64), sides[ENDS]])
        if np.any(self._ends[1:] <= self._ends[:-1]) or self._ends[-1] != size:
            raise ValueError(f"{ENDS}: expected to grow from chunk to chunk, up to {size}")
        taken = np.diff(self._ends)
        frames = np.full(len(taken), chunks.length)
        frames[-1:] = shape[0] - chunks.length * (len(taken) - 1)
        if len(short := np.flatnonzero(taken < -(-frames * prod(shape[1:]) // MAX_VALUES_PER_BYTE))):
            what = f"{frames[short[0]]} of {list(shape[1:])}"
            raise ValueError(f"{ENDS}: a chunk of {taken[short[0]]} bytes cannot hold {what}")
        self._lock = Lock()
        self._last: tuple[int, Tensor] | None = None

    def place(self, start: int, stop: int) -> tuple[int, int]:
        """All bytes of the chunks that hold these latents."""
        numbers = self._chunks.among(start, stop, self._shape[0])
        return (int(self._ends[numbers.start]), int(self._ends[numbers.stop])) if numbers else (0, 0)

    def decode(self, codes: np.ndarray, start: int, stop: int) -> Tensor:
        """The latents, cut out of their chunks."""
        base = self.place(start, stop)[0]
        latents = torch.empty((stop - start, *self._shape[1:]), dtype=self._dtype)
        for number in self._chunks.among(start, stop, self._shape[0]):
            begin, end = self._ends[number : number + 2] - base
            first, last = self._chunks.span(number, self._shape[0])
            chunk = self._decode_chunk(codes[begin:end], number, last - first)
            begin, end = max(start, first), min(stop, last)
            latents[begin - start : end - start] = chunk[begin - first : end - first]
        return latents

    def _decode_chunk(self, codes: np.ndarray, number: int, frames: int) -> Tensor:
        with self._lock:
            if self._last is None or self._last[0] != number:
                self._last = None  # the old chunk does not stand beside the new one
                self._last = number, self._decode(codes, (frames, *self._shape[1:]))
            return self._last[1]
