"""Floats without any loss: their bytes sorted into planes, then compressed by zstd.

The upper bytes of neighbouring latents are much alike, and the lower ones are noise: apart they compress
better than together. Level 1 of zstd is within a twentieth of what any level gives.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
import zstandard
from torch import Tensor

from vidlatent.io.coded.chunks import SIXTEEN
from vidlatent.io.coded.ends import ENDS, OpenedChunks, chunk_kinds, refuse_large
from vidlatent.io.coded.form import Kind, Shape
from vidlatent.io.tensors import TORCH_DTYPES, bytes_of

LEVEL = 1


@dataclass(frozen=True)
class Planes:
    """Stored as U8 [bytes] beside `ends`; every chunk is one frame of zstd."""

    dtype: str
    name = "planes"
    chunks = SIXTEEN
    finite = False

    @property
    def working(self) -> str:
        """Latents are taken as they are given back."""
        return self.dtype

    def facts(self) -> Mapping[str, object]:
        """Which floats they are."""
        return {"dtype": self.dtype}

    def code(self, chunk: Tensor) -> tuple[memoryview, bytes]:
        """First the lowest byte of all latents, last the highest, compressed."""
        refuse_large(chunk.shape)
        rows = np.frombuffer(bytes_of(chunk), np.uint8).reshape(-1, chunk.itemsize)
        planes = np.empty(rows.shape[::-1], np.uint8)
        for n, plane in enumerate(planes):  # a plane at a time is five times as fast as all at once
            plane[:] = rows[:, n]
        return memoryview(zstandard.ZstdCompressor(level=LEVEL).compress(planes.data)), b""

    def sides(self, ends: np.ndarray, parts: bytes) -> Mapping[str, np.ndarray]:
        """Where the chunks end."""
        return {ENDS: ends}

    def kinds(self, shape: Shape, size: int) -> Mapping[str, Kind]:
        """Bytes, as many as there are, and where the chunks end."""
        return chunk_kinds(shape, size)

    def open(self, shape: Shape, size: int, sides: Mapping[str, np.ndarray]) -> OpenedChunks:
        """The chunks, to be read."""
        dtype = TORCH_DTYPES[self.dtype]
        return OpenedChunks(shape, size, sides, dtype, lambda codes, shape: expand(codes, shape, dtype))


def expand(codes: np.ndarray, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The floats of one chunk, of a shape and dtype."""
    wanted = prod(shape) * dtype.itemsize
    try:
        found = zstandard.get_frame_parameters(codes.data).content_size
        if found != wanted:  # before any memory is asked for
            raise ValueError(f"a chunk of {found} bytes, expected {wanted}")
        planes = zstandard.ZstdDecompressor().decompress(codes.data, allow_extra_data=False)
    except zstandard.ZstdError as e:
        raise ValueError(f"a chunk that zstd cannot expand ({e})") from e
    latents = torch.empty(shape, dtype=dtype)
    rows = np.frombuffer(bytes_of(latents), np.uint8).reshape(-1, dtype.itemsize)
    for n, plane in enumerate(np.frombuffer(planes, np.uint8).reshape(dtype.itemsize, -1)):
        rows[:, n] = plane
    return latents
