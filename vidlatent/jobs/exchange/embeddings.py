"""Text embeddings that the user made: a folder with a file for every clip, [L, D] each."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vidlatent.errors import BadInput, UsageError, parameter
from vidlatent.jobs.exchange.piece import Piece


@dataclass(frozen=True)
class Embeddings:
    """The file of every clip, by the clip's identity, and the width that all must have."""

    files: Mapping[tuple, Path]
    width: int

    @classmethod
    def find(cls, folder: Path, pieces: Iterable[Piece], width: int | None) -> "Embeddings":
        """The files of all clips, by their names or their files' stems; `width` None is the first one's.

        Raises UsageError where a clip has none, and BadInput where one of them is not [L, width].
        """
        if not folder.is_dir():
            raise UsageError(f"{parameter('text_embeddings')} {folder}: no such folder")
        there = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in READERS}
        files = {}
        for piece in pieces:
            path = there.get(piece.name, there.get(piece.file.stem))
            if path is None:
                raise UsageError(
                    f"{parameter('text_embeddings')} {folder}: holds no embedding of {piece.name}",
                    f"expected {piece.name} with one of {', '.join(READERS)}",
                )
            files[piece.identity] = path
            width = read_embedding(path, width).shape[1]
        return cls(files, width or 0)

    def read(self, piece: Piece) -> Tensor:
        """[L, D] float32 of a clip."""
        return read_embedding(self.files[piece.identity], self.width)


def read_embedding(path: Path, width: int | None) -> Tensor:
    """[L, D] float32 of a file; raises BadInput where it holds anything else."""
    try:
        found = READERS[path.suffix](path)
    except (OSError, ValueError, RuntimeError, EOFError, SafetensorError) as e:
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise BadInput(f"{path}: not one tensor of numbers ({reason})", "save the tensor alone") from e
    good = found.dim() == 2 and 0 not in found.shape and found.is_floating_point()
    if not good or found.shape[1] != (width or found.shape[1]):
        raise BadInput(
            f"{path}: {found.dtype} {list(found.shape)}, expected floats [L, {width or 'D'}]",
            "give the last hidden states of the trainer's text encoder, without batch and padding",
        )
    found = found.to(torch.float32).contiguous()
    if not torch.isfinite(found).all():
        raise BadInput(f"{path}: holds NaN or infinity", "make it again")
    return found


def _read_pt(path: Path) -> Tensor:
    try:
        return _only(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as e:  # whatever unpickling refuses
        raise ValueError(str(e).splitlines()[0] if str(e) else type(e).__name__) from e


def _read_npy(path: Path) -> Tensor:
    return torch.from_numpy(np.load(path, allow_pickle=False))


def _read_safetensors(path: Path) -> Tensor:
    return _only(load_file(path))


def _only(found: object) -> Tensor:
    """The tensor itself, or the only one of a dict."""
    if isinstance(found, dict) and len(found) == 1:
        found = next(iter(found.values()))
    if not isinstance(found, Tensor):
        raise ValueError(f"a {type(found).__name__}")
    return found


READERS: Mapping[str, Callable[[Path], Tensor]] = {
    ".pt": _read_pt,
    ".npy": _read_npy,
    ".safetensors": _read_safetensors,
}
