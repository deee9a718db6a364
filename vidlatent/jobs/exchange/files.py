"""Kinds of files that several tools have in common, and how clips are shared out over them."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from vidlatent.files import replace_on_close
from vidlatent.jobs.exchange.tool import Piece


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    """Tensors by name, with texts in the header."""
    with replace_on_close(path) as partial:
        save_file(tensors, partial, metadata)
    return path


def write_pt(path: Path, item: dict[str, object]) -> Path:
    """A dict of plain tensors and numbers: `torch.load(weights_only=True)` reads it."""
    with replace_on_close(path) as partial:
        torch.save(item, partial)
    return path


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
