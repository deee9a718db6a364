"""From a cache to what other tools read: each in its own layout, and in the space that it expects."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vidlatent.errors import UsageError
from vidlatent.files import naming_disk_errors
from vidlatent.jobs.cache.manifest import Manifest, Row
from vidlatent.jobs.cache.scan import MEMBER
from vidlatent.jobs.cache.store import Place, Store
from vidlatent.jobs.readback.dataset import normalised

RAW, NORMALISED = "raw", "normalised"
SPACES = (RAW, NORMALISED)


@dataclass(frozen=True)
class ExportOptions:
    """`space` is raw or normalised, None: what the tool expects. `architecture` is for musubi.

    `recipe` chooses one of several in a cache; `shard_bytes` is the size to which shards grow.
    """

    space: str | None = None
    architecture: str | None = None
    recipe: str | None = None
    shard_bytes: int = 1 << 30


@dataclass(frozen=True)
class Piece:
    """One clip to export: its row, its entry, and a name of its own among those of the cache."""

    row: Row
    place: Place
    name: str
    space: str | None

    def latents(self, usual: str) -> Tensor:
        """[C, t, h, w], in the space asked for, or the usual one of the tool."""
        with self.place.open() as reader:
            found = reader.read(0, reader.frames)
            if (self.space or usual) == NORMALISED:
                found = normalised(found, reader).to(found.dtype)
        return found.transpose(0, 1).contiguous()

    def moments(self) -> Tensor:
        """[2C, t, h, w]: mean and raw logvar; raises UsageError where the cache holds no logvar."""
        with self.place.open() as reader:
            if not reader.has_logvar:
                raise UsageError(
                    f"{self.row.source}: this layout holds mean and logvar, "
                    f"the cache only the {reader.header.posterior}",
                    "cache with --posterior full",
                )
            both = (reader.read(0, reader.frames), reader.read_logvar(0, reader.frames))
        return torch.cat(both, dim=1).transpose(0, 1).contiguous()

    def affine(self) -> tuple[Tensor, Tensor]:
        """Shift and scale per channel, [C] each: a diffusion model expects (z - shift) · scale."""
        with self.place.open() as reader:
            pair = (reader.header.shift, reader.header.scale)
        return tuple(torch.tensor(values).expand(self.row.shape[1]).clone() for values in pair)  # type: ignore

    def fps(self) -> float:
        """Frames per second of the clip that was encoded."""
        with self.place.open() as reader:
            return float(reader.clock.average_rate)


Writer = Callable[[Iterable[Piece], Path, ExportOptions], Iterator[Path]]


def export(root: Path, target: Path, layout: str, options: ExportOptions | None = None) -> Iterator[Path]:
    """Write every clip of the cache at `root` into `target` in a tool's layout; each file as it is done."""
    from vidlatent.jobs.exchange.layouts import LAYOUTS

    options = options or ExportOptions()
    if layout not in LAYOUTS:
        raise UsageError(f"--to {layout}: unknown", f"one of {', '.join(LAYOUTS)}")
    if options.space not in (None, *SPACES):
        raise UsageError(f"--space {options.space}: unknown", f"one of {', '.join(SPACES)}")
    if target.exists() and any(target.iterdir()):
        raise UsageError(f"{target}: is not empty", "name a new folder: nothing is written over")
    found = pieces(root, options)
    with naming_disk_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    yield from LAYOUTS[layout](found, target, options)


def pieces(root: Path, options: ExportOptions) -> list[Piece]:
    """The clips of a cache, each with a name of its own; raises UsageError where recipes would be mixed."""
    store = Store.open(root)
    manifest = Manifest(store)
    rows = [row for row in manifest.rows() if manifest.present(row)]
    recipes = sorted({row.recipe for row in rows})
    if options.recipe is None and len(recipes) > 1:
        raise UsageError(
            f"{root}: holds {len(recipes)} recipes", f"choose one by --recipe: {', '.join(recipes)}"
        )
    rows = [row for row in rows if options.recipe in (None, row.recipe)]
    names = [Path(row.source.rpartition(MEMBER)[2]).stem for row in rows]
    often = Counter(names)
    unique = _numbered(
        [n if often[n] == 1 else f"{n}-{row.key[:8]}" for n, row in zip(names, rows, strict=True)]
    )
    return [
        Piece(row, manifest.place(row), name, options.space) for row, name in zip(rows, unique, strict=True)
    ]


def _numbered(names: list[str]) -> list[str]:
    """Equal names told apart: copies of one file under one name in several folders."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return numbered
