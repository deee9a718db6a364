"""The form that latents are kept in, between encoding and decoding: what is read back, and its bits.

A bench rates latents at these bits. A new form is a class with the two members of `StoredForm`, and a line in
`find_form`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from vidlatent.dtypes import DTYPES
from vidlatent.engine.runtime import named_dtype
from vidlatent.errors import UsageError, parameter
from vidlatent.io.coded.chunks import Chunks
from vidlatent.io.coded.form import Form
from vidlatent.io.coded.int8 import Int8
from vidlatent.io.latent.gather import Gatherer

NAMES = (*DTYPES, Int8.name)  # of the forms that need no clip to be known
PACKED = re.compile(r"packed:(\d+(?:\.\d+)?)dB", re.IGNORECASE)


class StoredForm(Protocol):
    """A way of keeping latents, so many together as `chunks` says, or any. `name` stands in reports."""

    name: str
    chunks: Chunks | None
    fixed_bits: int  # that a clip takes beside its chunks

    def keep(self, latents: Tensor) -> tuple[Tensor, int]:
        """What a reader gets back of latents [t, C, h, w], in the same shape, and the bits they take."""


@dataclass(frozen=True)
class PlainForm:
    """Every value by itself, in a dtype: `name` is fp32, fp16 or bf16."""

    name: str
    chunks = None
    fixed_bits = 0

    def keep(self, latents: Tensor) -> tuple[Tensor, int]:
        """The latents rounded to the dtype, and its bits for each value."""
        kept = latents.to(named_dtype(self.name))
        return kept, 8 * kept.nbytes


@dataclass(frozen=True)
class CodedForm:
    """A form of `io/coded`, as `.latent` files have it."""

    name: str
    form: Form

    @property
    def chunks(self) -> Chunks | None:
        """Which latent frames are coded together."""
        return self.form.chunks

    @property
    def fixed_bits(self) -> int:
        """The bits of what is fitted to a clip, where that is so."""
        fitted = getattr(self.form, "fitted", None)
        return (
            8 * sum(part.nbytes for part in (fitted.offsets, fitted.steps, fitted.weights)) if fitted else 0
        )

    def keep(self, latents: Tensor) -> tuple[Tensor, int]:
        """The latents coded and decoded, and the bits of the codes and of what lies beside them."""
        codes, parts = self.form.code(latents.float().cpu().contiguous())
        sides = self.form.sides(np.array([len(codes)]), parts)
        held = np.frombuffer(codes, np.uint8)
        shape = tuple(latents.shape)
        kept = self.form.open(shape, len(codes), sides).decode(held, 0, shape[0])
        return kept, 8 * (len(codes) + sum(side.nbytes for side in sides.values())) - self.fixed_bits


def find_form(name: str) -> StoredForm:
    """The form of that name, which needs no clip to be known; raises UsageError where there is none."""
    if name == Int8.name:
        return CodedForm(name, Int8())
    named_dtype(name)
    return PlainForm(name)


def find_drop(name: str) -> float | None:
    """The drop in dB that `packed:0.1dB` allows; None for forms that are not fitted to a clip."""
    found = PACKED.fullmatch(name)
    return float(found[1]) if found else None


def check_name(name: str) -> None:
    """Raise UsageError for a name of no form."""
    if find_drop(name) is None and name not in NAMES:
        raise UsageError(
            f"{parameter('latent_dtype')} {name}: unknown", f"one or more of {', '.join(NAMES)}, packed:0.1dB"
        )


def keep_all(form: StoredForm, latents: Iterator[Tensor]) -> Iterator[tuple[Tensor, int]]:
    """Windows of latents [t, C, h, w] as they are read back, and their bits, chunk by chunk."""
    gatherer = Gatherer(form.chunks)
    for window in latents:
        for _, chunk in gatherer.add(gatherer.stop, window):
            yield form.keep(chunk)
    for _, chunk in gatherer.rest():
        yield form.keep(chunk)
