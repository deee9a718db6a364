"""What a form of stored latents does: the writer and the reader of `.latent` files ask it, and know no more.

A form turns latents into the bytes of one tensor, the codes, and back. What a reader needs beside the codes
are the side tensors, whose names follow a dot: `latents.steps` lies beside `latents`. Everything here raises
ValueError; whoever knows the file's name adds it.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
from torch import Tensor

CHUNK = 16  # latent frames that are coded together, but for the last ones of a clip
CODES = ""  # the name of the codes, among the names of side tensors

Shape = tuple[int, int, int, int]  # [t, C, h, w] of all latents of a tensor
Kind = tuple[str, tuple[int, ...]]  # of a tensor in a file: its dtype as safetensors names it, its shape


class Form(Protocol):
    """One way to store latents. It belongs to one file where it is fitted to a clip.

    `name` is what the header's fact `stored` calls it. It takes latents as `working`, and gives them back as
    `dtype`, both in the words of safetensors. `chunk` latent frames are coded together; None takes them as
    they come. Where `finite` is set, whatever it gives back is a finite number, so nobody has to look.
    """

    name: str
    working: str
    dtype: str
    chunk: int | None
    finite: bool

    def facts(self) -> Mapping[str, object]:
        """What the header says of this form beside its name: JSON values, without which nobody can read."""
        ...

    def code(self, chunk: Tensor) -> tuple[memoryview, bytes]:
        """The codes of latents [≤ chunk, C, h, w], finite and contiguous, and their part of the sides."""
        ...

    def sides(self, ends: np.ndarray, parts: bytes) -> Mapping[str, np.ndarray]:
        """The side tensors of a whole tensor, by name.

        `ends` says of each chunk how many bytes of codes there are with it, `parts` are what `code` gave for
        the sides, joined.
        """
        ...

    def kinds(self, shape: Shape, size: int) -> Mapping[str, Kind]:
        """What the codes, called CODES, and the side tensors must be, for latents of a shape in `size` bytes.

        Raises where no latents of this shape can lie in so few bytes.
        """
        ...

    def open(self, shape: Shape, size: int, sides: Mapping[str, np.ndarray]) -> "Opened":
        """The latents of a tensor of `kinds`, to be read; raises where the sides say what cannot be."""
        ...


class Opened(Protocol):
    """Latents of one tensor in one file, whose sides have been read. Threads may share one."""

    def place(self, start: int, stop: int) -> tuple[int, int]:
        """Which bytes [begin, end) of the codes latent frames [start, stop) need."""
        ...

    def decode(self, codes: np.ndarray, start: int, stop: int) -> Tensor:
        """Latents [stop - start, C, h, w] from those bytes, uint8; raises where they mean none.

        The codes of floats may become the latents themselves, those of other forms are only looked at.
        """
        ...


def count_chunks(frames: int) -> int:
    """How many chunks there are of so many latent frames."""
    return -(-frames // CHUNK)


def list_chunks(frames: int) -> Iterator[tuple[int, int]]:
    """[start, stop) of one chunk of latent frames after the other."""
    return ((start, min(start + CHUNK, frames)) for start in range(0, frames, CHUNK))
