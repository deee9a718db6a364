"""What a tool is to an export: the clips it is given, the options, and the one function it has to offer.

A tool is a module with a function `write`; `export.TOOLS` names them all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from vidlatent.errors import UsageError, parameter
from vidlatent.jobs.cache.manifest import ManifestRow
from vidlatent.jobs.cache.store import Place
from vidlatent.jobs.readback.dataset import normalise_latents

RAW, NORMALISED = "raw", "normalised"
SPACES = (RAW, NORMALISED)


@dataclass(frozen=True)
class ExportOptions:
    """How to export.

    `space` is raw or normalised; None is what the tool expects. `architecture` is for musubi alone. `recipe`
    chooses one of several in a cache. Shards grow to about `shard_bytes`.
    """

    space: str | None = None
    architecture: str | None = None
    recipe: str | None = None
    shard_bytes: int = 1 << 30


@dataclass(frozen=True)
class Piece:
    """One clip to export: its row, its entry, and a name that no other clip of the export has."""

    row: ManifestRow
    place: Place
    name: str
    space: str | None

    def latents(self, usual: str) -> Tensor:
        """[C, t, h, w], in the space asked for, or in the one that is usual for the tool."""
        with self.place.open() as reader:
            found = reader.read(0, reader.frames)
            if (self.space or usual) == NORMALISED:
                found = normalise_latents(found, reader).to(found.dtype)
        return found.transpose(0, 1).contiguous()

    def moments(self) -> Tensor:
        """[2C, t, h, w]: mean and raw logvar; raises UsageError where the cache holds no logvar."""
        with self.place.open() as reader:
            if not reader.has_logvar:
                raise UsageError(
                    f"{self.row.source}: this layout holds mean and logvar, "
                    f"the cache only the {reader.header.posterior}",
                    f"cache with {parameter('posterior')} full",
                )
            both = (reader.read(0, reader.frames), reader.read_logvar(0, reader.frames))
        return torch.cat(both, dim=1).transpose(0, 1).contiguous()

    def affine(self) -> tuple[Tensor, Tensor]:
        """Shift and scale of every channel, [C] each: a diffusion model expects (z - shift) · scale."""
        with self.place.open() as reader:
            pair = (reader.header.shift, reader.header.scale)
        return tuple(torch.tensor(values).expand(self.row.shape[1]).clone() for values in pair)  # type: ignore

    def fps(self) -> float:
        """Frames per second of the clip that was encoded."""
        with self.place.open() as reader:
            return float(reader.clock.average_rate)


class Tool(Protocol):
    """Another program that keeps latents on disk. A module with this function is one."""

    def write(self, pieces: Sequence[Piece], target: Path, options: ExportOptions) -> Iterator[Path]:
        """Write all clips into the folder `target` as the program expects them; each file as it is done."""
        ...
