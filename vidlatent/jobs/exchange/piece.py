"""A clip to export: what is said of it, what it may be called, and its latents."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import ceil
from pathlib import PurePosixPath

import torch
from torch import Tensor

from vidlatent.jobs.cache.manifest import ManifestRow
from vidlatent.jobs.cache.scan import MEMBER
from vidlatent.jobs.cache.store import Place
from vidlatent.jobs.exchange.needs import NORMALISED
from vidlatent.jobs.readback.dataset import normalise_latents

HERE = PurePosixPath()
EARLY = Fraction(1, 8)  # of a frame: times are rounded by containers
CAPTIONS = ("caption", "txt")  # facts that say what is to be seen in a clip


@dataclass(frozen=True)
class Piece:
    """One clip to export: its row, its entry, a name that no other clip of the export has, and a number."""

    row: ManifestRow
    place: Place
    name: str
    space: str | None
    number: int = 0
    folder: PurePosixPath = HERE  # of its file, below the folder that the export begins at

    @property
    def identity(self) -> tuple:
        """What stays the same when the clip is cached anew: its source, and the span of it."""
        return self.row.source, self.row.span

    @property
    def file(self) -> PurePosixPath:
        """The source's file; of a member of a tar, its path in there."""
        return PurePosixPath(self.row.source.rpartition(MEMBER)[2])

    @property
    def is_part(self) -> bool:
        """Whether the clip is a span of its source, and not the whole or its beginning."""
        return any(time is not None for time in self.row.span[:2])

    @property
    def caption(self) -> str:
        """What is said of the clip; empty where nothing is."""
        facts = self.row.facts
        return str(next((facts[name] for name in CAPTIONS if facts.get(name)), "")).strip()

    @cached_property
    def start(self) -> int:
        """The number of its first frame in the source, counted at the rate at which the clip was read."""
        begin = self.row.span[0] if self.row.span else None
        if self.row.first_frame or begin is None:
            return self.row.first_frame
        asked = self.row.read.get("fps")  # a row of 0.1, which does not say the number
        rate = Fraction(str(asked)) if asked else self._rate
        return max(0, ceil(Fraction(str(begin)) * rate - EARLY))

    @cached_property
    def _rate(self) -> Fraction:
        with self.place.open() as reader:
            return reader.clock.average_rate

    def fps(self) -> float:
        """Frames per second of the clip that was encoded."""
        return float(self._rate)

    def asked_fps(self) -> float:
        """Frames per second that were asked for; where none were, those of the clip."""
        asked = self.row.read.get("fps")
        return float(Fraction(str(asked))) if asked else self.fps()

    def latents(self, usual: str) -> Tensor:
        """[C, t, h, w], in the space asked for, or in the one that is usual for the tool."""
        with self.place.open() as reader:
            found = reader.read_checked(0, reader.frames)
            if (self.space or usual) == NORMALISED:
                found = normalise_latents(found, reader).to(found.dtype)
        return found.transpose(0, 1).contiguous()

    def first_frame(self, usual: str) -> Tensor | None:
        """[C, t, h, w] of the first frame and then zeros, as `latents`; None where the cache has none."""
        with self.place.open() as reader:
            if not reader.has_first_frame:
                return None
            found = reader.read_checked(0, reader.frames, "first_frame")
            if (self.space or usual) == NORMALISED:
                found = normalise_latents(found, reader).to(found.dtype)
        return found.transpose(0, 1).contiguous()

    def moments(self) -> Tensor:
        """[2C, t, h, w]: mean and raw logvar."""
        with self.place.open() as reader:
            both = [reader.read_checked(0, reader.frames, name) for name in ("latents", "logvar")]
        return torch.cat(both, dim=1).transpose(0, 1).contiguous()

    def affine(self) -> tuple[Tensor, Tensor]:
        """Shift and scale of every channel, [C] each: a diffusion model expects (z - shift) · scale."""
        with self.place.open() as reader:
            pair, channels = (reader.header.shift, reader.header.scale), reader.shape[1]
        return tuple(torch.tensor(values).expand(channels).clone() for values in pair)  # type: ignore


# A clip → what it shares its name with, and names for that, the best first.
Naming = Callable[[Piece], tuple[Hashable, Iterable[str]]]


def by_file(piece: Piece) -> tuple[Hashable, Iterable[str]]:
    """Each clip has a name of its own: its file's, and where it begins if it is a span of that file."""
    stem = piece.file.stem
    name = f"{stem}-{piece.start:05d}" if piece.is_part else stem
    return piece.identity, (name, f"{name}-{piece.row.key[:8]}")


def in_tree(piece: Piece) -> tuple[Hashable, Iterable[str]]:
    """As by_file, in the folder that the file lies in."""
    subject, names = by_file(piece)
    return subject, (str(piece.folder / name) for name in names)
