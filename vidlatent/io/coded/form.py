"""What a form of stored latents does: the writer and the reader of `.latent` files ask it, and know no more.

A form turns latents into the bytes of one tensor, the codes, and back. What a reader needs beside the codes
are the side tensors, whose names follow a dot: `latents.steps` lies beside `latents`. Everything here raises
ValueError; whoever knows the file's name adds it.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from torch import Tensor

from vidlatent.io.coded.chunks import Chunks

CODES = ""  # the name of the codes, among the names of side tensors

Shape = tuple[int, int, int, int]  # [t, C, h, w] of all latents of a tensor
Kind = tuple[str, tuple[int, ...]]  # of a tensor in a file: its dtype as safetensors names it, its shape


class Form(Protocol):
    """One way to store latents. It belongs to one file where it is fitted to a clip.

    `name` is what the header's fact `stored` calls it. It takes latents as `working`, and gives them back as
    `dtype`, both in the words of safetensors. `chunks` says what is coded together; None takes latents as
    they come. Where `finite` is set, whatever it gives back is a finite number, so nobody has to look.
    """

    name: str
    working: str
    dtype: str
    chunks: Chunks | None
    finite: bool

    def facts(self) -> Mapping[str, object]:
        """What the header says of this form beside its name: JSON values, without which nobody can read."""
        ...

    def code(self, chunk: Tensor) -> tuple[memoryview, bytes]:
        """The codes of latents [t, C, h, w], a chunk, finite and contiguous, and their part of the sides.

        Raises where a chunk is larger than readers take.
        """
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
