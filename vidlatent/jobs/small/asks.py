"""What packing asks of a clip: of its latents, in a file or not, and of what decodes them to measure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor

from vidlatent.io.latent.header import LatentHeader
from vidlatent.jobs.small.errors import Errors


class ClipLatents(Protocol):
    """Latents [t, C, h, w] of a clip, `frames` of them; `path` is what they are called in messages.

    The header is asked for its source's size where a rate is to be met, and for the errors that it may keep
    of its encoding where there is no source to measure against.
    """

    path: Path | str
    header: LatentHeader | None
    shape: tuple[int, ...]
    frames: int

    def read_checked(self, start: int, stop: int) -> Tensor:
        """Latents [stop - start, C, h, w]."""
        ...


class Trying(Protocol):
    """Decodes latents of one clip again and again, and says how far off the frames are.

    `spans` are the frames [first, last) that are decoded, `frames` of them in all; `decodes` counts how often
    that was done. With `has_source` they are compared with the clip, else with the latents as they are.
    """

    has_source: bool
    spans: Sequence[tuple[int, int]]
    frames: int
    decodes: int

    def measure_base(self) -> Errors:
        """The errors of the latents as they are, against the source."""
        ...

    def measure(self, latents: ClipLatents) -> Errors:
        """The errors of latents in another form."""
        ...
