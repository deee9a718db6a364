"""Plain safetensors, for whoever writes their own loader: shard-N.safetensors and index.json.

A shard holds `latents/NAME` [t, C, h, w] of many clips, raw. The index says which tensor is in which file,
what the manifest says of every clip, and the VAE's `scale` and `shift`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

from vidlatent.jobs.exchange.files import count_names, group_by_bytes, write_safetensors
from vidlatent.jobs.exchange.needs import RAW
from vidlatent.jobs.exchange.piece import Piece
from vidlatent.jobs.exchange.tool import Export, OutFile, Tool

INDEX = "index.json"


def plan(export: Export) -> Iterator[OutFile]:
    """One file for clips of about `shard_bytes` together."""
    names = count_names("shard-{:05d}.safetensors", export.taken)
    for group in group_by_bytes(export.pieces, export.options.shard_bytes):
        yield OutFile(next(names), tuple(group), partial(_write, group))


def _write(group: list[Piece], path: Path) -> None:
    tensors = {f"latents/{p.name}": p.latents(RAW).transpose(0, 1).contiguous() for p in group}
    write_safetensors(path, tensors, {"format": "pt"})


def lists(export: Export) -> Mapping[str, str]:
    """The index."""
    index = {
        "space": export.options.space or RAW,
        "model": export.vae.name,
        "scale": export.vae.scale,
        "shift": export.vae.shift,
        "weight_map": {f"latents/{p.name}": export.files[p.identity] for p in export.pieces},
        "clips": {p.name: asdict(p.row) for p in export.pieces},
    }
    return {INDEX: json.dumps(index, indent=1) + "\n"}


def steps(export: Export) -> Iterable[str]:
    """How to read them."""
    return (
        f"{INDEX} says in which file the tensor latents/NAME of a clip lies: [t, C, h, w], "
        f"{export.options.space or RAW}.",
        'In Python: vidlatent.LatentDataset("THIS_FOLDER").',
    )


TOOL = Tool(plan, steps, lists, index=INDEX)
