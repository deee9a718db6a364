"""Latents as they are: floats, one after the other."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from vidlatent.io.coded.form import CODES, Kind, Shape
from vidlatent.io.tensors import TORCH_DTYPES, bytes_of


@dataclass(frozen=True)
class Floats:
    """Stored as F32, F16 or BF16. The header says nothing of it: files of version 1.0 are such."""

    dtype: str
    name = ""
    chunks = None
    finite = False

    @property
    def working(self) -> str:
        """Latents are taken as they are stored."""
        return self.dtype

    def facts(self) -> Mapping[str, object]:
        """The dtype is that of the tensor, and needs no words."""
        return {}

    def code(self, chunk: Tensor) -> tuple[memoryview, bytes]:
        """The memory of the latents itself."""
        return bytes_of(chunk), b""

    def sides(self, ends: np.ndarray, parts: bytes) -> Mapping[str, np.ndarray]:
        """None."""
        return {}

    def kinds(self, shape: Shape, size: int) -> Mapping[str, Kind]:
        """One tensor of floats."""
        return {CODES: (self.dtype, shape)}

    def open(self, shape: Shape, size: int, sides: Mapping[str, np.ndarray]) -> "OpenedFloats":
        """The floats, to be read."""
        return OpenedFloats(TORCH_DTYPES[self.dtype], shape[1:])


@dataclass(frozen=True)
class OpenedFloats:
    """Floats of a dtype; a latent frame is of shape [C, h, w]."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    def place(self, start: int, stop: int) -> tuple[int, int]:
        """Their own bytes."""
        row = prod(self.shape) * self.dtype.itemsize
        return start * row, stop * row

    def decode(self, codes: np.ndarray, start: int, stop: int) -> Tensor:
        """The bytes, seen as floats."""
        if start == stop:
            return torch.empty((0, *self.shape), dtype=self.dtype)
        return torch.from_numpy(codes).view(self.dtype).view(stop - start, *self.shape)
