"""From a cache to what other tools read: each in its own layout, and in the space that it expects."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from vidlatent.errors import UsageError, parameter
from vidlatent.files import naming_disk_errors
from vidlatent.jobs.cache.manifest import Manifest
from vidlatent.jobs.cache.scan import MEMBER
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.exchange import comfyui, fastvideo, finetrainers, ltx, musubi, safetensors, webdataset
from vidlatent.jobs.exchange.tool import SPACES, ExportOptions, Piece, Tool

__all__ = ["TOOLS", "ExportOptions", "export"]
TOOLS: Mapping[str, Tool] = {
    "comfyui": comfyui,
    "musubi": musubi,
    "ltx": ltx,
    "fastvideo": fastvideo,
    "finetrainers": finetrainers,
    "webdataset": webdataset,
    "safetensors": safetensors,
}


def export(root: Path, target: Path, tool: str, options: ExportOptions | None = None) -> Iterator[Path]:
    """Write every clip of the cache at `root` into `target` as a tool expects it; each file as it is done."""
    options = options or ExportOptions()
    if tool not in TOOLS:
        raise UsageError(f"{parameter('tool')} {tool}: unknown", f"one of {', '.join(TOOLS)}")
    if options.space not in (None, *SPACES):
        raise UsageError(f"{parameter('space')} {options.space}: unknown", f"one of {', '.join(SPACES)}")
    if target.exists() and any(target.iterdir()):
        raise UsageError(f"{target}: is not empty", "name a new folder: nothing is written over")
    pieces = collect_pieces(root, options)
    with naming_disk_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    yield from TOOLS[tool].write(pieces, target, options)


def collect_pieces(root: Path, options: ExportOptions) -> list[Piece]:
    """The clips of a cache, each with a name of its own; raises UsageError where recipes would be mixed."""
    manifest = Manifest(Store.open(root))
    rows = manifest.present_rows(options.recipe)
    stems = [Path(row.source.rpartition(MEMBER)[2]).stem for row in rows]
    often = Counter(stems)
    names = _number_equals(
        [n if often[n] == 1 else f"{n}-{row.key[:8]}" for n, row in zip(stems, rows, strict=True)]
    )
    return [
        Piece(row, manifest.place(row), name, options.space) for row, name in zip(rows, names, strict=True)
    ]


def _number_equals(names: list[str]) -> list[str]:
    """Equal names told apart by a number: copies of one file under one name in several folders."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return numbered
