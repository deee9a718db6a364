"""Plain safetensors, for whoever writes their own loader: shard-N.safetensors and index.json.

A shard holds `latents/NAME` [t, C, h, w] of many clips, raw. The index says which tensor is in which file,
and what the manifest says of every clip.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from vidlatent.files import replace_on_close
from vidlatent.jobs.exchange.files import group_by_bytes, write_safetensors
from vidlatent.jobs.exchange.tool import RAW, ExportOptions, Piece


def write(pieces: Sequence[Piece], target: Path, options: ExportOptions) -> Iterator[Path]:
    """One file for clips of about `shard_bytes` together, the index last."""
    where: dict[str, str] = {}
    clips: dict[str, dict] = {}
    for number, group in enumerate(group_by_bytes(pieces, options.shard_bytes)):
        path = target / f"shard-{number:05d}.safetensors"
        tensors = {f"latents/{p.name}": p.latents(RAW).transpose(0, 1).contiguous() for p in group}
        where |= dict.fromkeys(tensors, path.name)
        clips |= {piece.name: asdict(piece.row) for piece in group}
        yield write_safetensors(path, tensors, {"format": "pt"})
    path = target / "index.json"
    with replace_on_close(path) as partial:
        partial.write_text(json.dumps({"weight_map": where, "clips": clips}, indent=1) + "\n")
    yield path
