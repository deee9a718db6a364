"""Latents as whole numbers from -127 to 127, times a step for each channel of 16 latent frames.

The step is the largest magnitude there over 127: so it follows cuts of the scene, and the clip needs to be
seen only once. Codes lie as floats do: any span is read alone, and only its own bytes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from vidlatent.io.coded.chunks import SIXTEEN
from vidlatent.io.coded.form import CODES, Kind, Shape
from vidlatent.io.tensors import TORCH_DTYPES, bytes_of

MOST = 127
SMALLEST_STEP = torch.finfo(torch.float32).tiny  # of a channel of zeros: its codes are 0 by any step
AT_ONCE = 1 << 17  # values that are multiplied at once: so they stay in the processor's cache
LARGEST_STEP = torch.finfo(torch.bfloat16).max / 128  # so that every code times it is finite in bf16


@dataclass(frozen=True)
class Int8:
    """Stored as I8 beside `steps`, F32 [chunks, C]."""

    name = "int8"
    working = "F32"
    dtype = "BF16"
    chunks = SIXTEEN
    finite = True

    def facts(self) -> Mapping[str, object]:
        """Nothing more: the steps are a tensor."""
        return {}

    def code(self, chunk: Tensor) -> tuple[memoryview, bytes]:
        """Codes [≤ 16, C, h, w], and the steps of the channels."""
        steps = (chunk.abs().amax(dim=(0, 2, 3)) / MOST).clamp(SMALLEST_STEP, LARGEST_STEP)  # [C]
        codes = (chunk / steps.view(-1, 1, 1)).round_().clamp_(-MOST, MOST).to(torch.int8)
        return bytes_of(codes), steps.numpy().astype("<f4").tobytes()

    def sides(self, ends: np.ndarray, parts: bytes) -> Mapping[str, np.ndarray]:
        """The steps of all chunks."""
        return {"steps": np.frombuffer(bytearray(parts), "<f4").reshape(len(ends), -1)}

    def kinds(self, shape: Shape, size: int) -> Mapping[str, Kind]:
        """A code for each latent, a step for each channel of a chunk."""
        return {CODES: ("I8", shape), "steps": ("F32", (SIXTEEN.count(shape[0]), shape[1]))}

    def open(self, shape: Shape, size: int, sides: Mapping[str, np.ndarray]) -> "OpenedInt8":
        """The codes, to be read; raises for a step that is not above 0, or so large that bf16 overflows."""
        steps = sides["steps"]
        if not np.all((steps > 0) & (steps <= LARGEST_STEP)):
            raise ValueError(f"steps: expected numbers above 0, at most {LARGEST_STEP:g}")
        return OpenedInt8(torch.from_numpy(steps), shape[1:])


@dataclass(frozen=True, eq=False)
class OpenedInt8:
    """Codes, whose steps are [chunks, C]; a latent frame is of shape [C, h, w]."""

    steps: Tensor
    shape: tuple[int, ...]

    def place(self, start: int, stop: int) -> tuple[int, int]:
        """Their own bytes."""
        row = prod(self.shape)
        return start * row, stop * row

    def decode(self, codes: np.ndarray, start: int, stop: int) -> Tensor:
        """Code times step, in float32, then rounded to bf16."""
        frames = codes.view(np.int8).reshape(stop - start, *self.shape)
        latents = torch.empty(frames.shape, dtype=TORCH_DTYPES[Int8.dtype])
        several = min(SIXTEEN.length, max(1, AT_ONCE // max(1, prod(self.shape))))
        product, steps = torch.empty((several, *self.shape)), self.steps.numpy()[..., None, None]
        view = product.numpy()
        for begin, end in list_groups(start, stop, several):
            here, count = slice(begin - start, end - start), end - begin
            np.multiply(frames[here], steps[begin // SIXTEEN.length], out=view[:count])
            latents[here] = product[:count]
        return latents

    def split(self, codes: np.ndarray, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The codes themselves, I8 [t, C, h, w], and the steps of each latent frame, F32 [t, C]."""
        raw = torch.empty((stop - start, *self.shape), dtype=torch.int8)
        raw.view(-1).numpy()[:] = codes.view(np.int8)
        return raw, self.find_steps(start, stop)

    def find_steps(self, start: int, stop: int) -> Tensor:
        """The steps of latent frames [start, stop), F32 [t, C]."""
        return self.steps[torch.arange(start, stop) // SIXTEEN.length]


def list_groups(start: int, stop: int, most: int) -> Iterator[tuple[int, int]]:
    """[begin, end) of at most so many latent frames, none of which lie in two chunks."""
    while start < stop:
        end = min(start + most, stop, (start // SIXTEEN.length + 1) * SIXTEEN.length)
        yield start, end
        start = end
