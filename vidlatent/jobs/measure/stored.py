"""The form that latents are kept in, between encoding and decoding: what is read back, and its bits.

A bench rates latents at these bits. A new form is a class with the two members of `StoredForm`, and a line in
`find_form`.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from vidlatent.engine.runtime import named_dtype


class StoredForm(Protocol):
    """A way of keeping latents. `name` stands in reports."""

    name: str

    def keep(self, latents: Tensor) -> tuple[Tensor, int]:
        """What a reader gets back of latents [1, C, t, h, w], in the same shape, and the bits they take."""


@dataclass(frozen=True)
class PlainForm:
    """Every value by itself, in a dtype: `name` is fp32, fp16 or bf16."""

    name: str

    def keep(self, latents: Tensor) -> tuple[Tensor, int]:
        """The latents rounded to the dtype, and its bits for each value."""
        kept = latents.to(named_dtype(self.name))
        return kept, 8 * kept.nbytes


def find_form(name: str) -> StoredForm:
    """The form of that name; raises UsageError where there is none."""
    named_dtype(name)
    return PlainForm(name)
