"""Kinds of files that several tools have in common, and how clips are shared out over them.

All are reproducible: the same tensors make the same bytes.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from vidlatent.io.latent.layout import TensorEntry, header_json, write_header
from vidlatent.jobs.exchange.piece import Piece

_ALIGN_BYTES = 8  # of the header, as the safetensors library does it
_STORED = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
}


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Tensors by name, with texts in the header; the safetensors library orders texts by chance."""
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    entries: dict[str, TensorEntry] = {}
    at = 0
    for name in order:
        entries[name] = TensorEntry(_STORED[tensors[name].dtype], tuple(tensors[name].shape), at)
        at = entries[name].stop
    header = header_json(dict(sorted((metadata or {}).items())), entries)
    if not metadata:
        del header["__metadata__"]
    packed = json.dumps(header, separators=(",", ":")).encode()
    with path.open("wb") as file:
        write_header(file, packed, -(-len(packed) // _ALIGN_BYTES) * _ALIGN_BYTES)
        for name in order:
            file.write(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)


def write_pt(path: Path, item: object) -> None:
    """Plain tensors and numbers: `torch.load(weights_only=True)` reads them."""
    packed = (
        BytesIO()
    )  # torch would write a name into a file, and say of a full disk that it is its own fault
    torch.save(item, packed)
    path.write_bytes(packed.getbuffer())


def json_lines(rows: Iterable[Mapping[str, object]]) -> str:
    """A JSON object in each line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def count_names(pattern: str, taken: frozenset[str]) -> Iterator[str]:
    """Names with numbers from 0 on, such as "shard-{:05d}.tar"; those that are taken are left out."""
    return (name for name in map(pattern.format, count()) if name not in taken)


def group_by_bytes(pieces: Iterable[Piece], limit: int) -> Iterator[list[Piece]]:
    """Runs of clips whose entries are about `limit` bytes together, one clip at least."""
    held: list[Piece] = []
    size = 0
    for piece in pieces:
        if held and size + piece.row.bytes > limit:
            yield held
            held, size = [], 0
        held.append(piece)
        size += piece.row.bytes
    if held:
        yield held
