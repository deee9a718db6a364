"""Shards of plain tensors, as `cache export --to safetensors` makes them, with one index.json for all."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from vidlatent.errors import BadInput
from vidlatent.io.file_parts import MappedPart
from vidlatent.io.latent.tensors import TORCH_DTYPES, bytes_of

INDEX = "index.json"
PREFIX = "latents/"
NORMALISED = "normalised"
_LENGTH_BYTES = 8  # of the number in front of a safetensors header
_MAX_HEADER_BYTES = 100_000_000  # of the safetensors library


@dataclass(frozen=True)
class Affine:
    """What a diffusion model expects of raw latents: (z - shift) · scale."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]


@dataclass(frozen=True)
class PlainTensor:
    """Latents that lie as one tensor in a safetensors file: their dtype and shape, and in which space."""

    dtype: str
    shape: tuple[int, int, int, int]
    affine: Affine
    normalised: bool


class PlainLatents:
    """Reads the latents of one clip from a tensor, as LatentReader does from a `.latent`."""

    has_logvar = has_first_frame = False

    def __init__(self, path: Path, part: tuple[int, int], tensor: PlainTensor) -> None:
        self._map, self._tensor = MappedPart(path, part), tensor

    @property
    def header(self) -> Affine:
        """What is known of the VAE."""
        return self._tensor.affine

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[t, C, h, w] of all latents."""
        return self._tensor.shape

    def read(self, start: int, stop: int) -> Tensor:
        """Latents [stop - start, C, h, w] of latent frames [start, stop), in raw posterior units."""
        tensor = self._tensor
        row_bytes = len(self._map.view) // tensor.shape[0]
        found = torch.empty((stop - start, *tensor.shape[1:]), dtype=TORCH_DTYPES[tensor.dtype])
        bytes_of(found)[:] = self._map.view[start * row_bytes : stop * row_bytes]
        if not tensor.normalised:
            return found
        scale, shift = (torch.tensor(values).view(-1, 1, 1) for values in vars(tensor.affine).values())
        return (found.float() / scale + shift).to(found.dtype)

    def close(self) -> None:
        """Close the file."""
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def belongs_to_index(path: Path) -> bool:
    """Whether a file is one of those that the index.json beside it lists."""
    index = _read_index(path.with_name(INDEX))
    return index is not None and path.name in index["weight_map"].values()


def list_tensors(path: Path) -> Iterator[tuple[str, tuple[int, int], PlainTensor, Mapping]]:
    """Of every clip in a shard: its name, (offset, bytes) and facts of its tensor, its row in the index."""
    index = _read_index(path.with_name(INDEX))
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if length > _MAX_HEADER_BYTES:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
        affine = Affine(tuple(index["scale"]), tuple(index["shift"]))
        for key in (key for key in header if key.startswith(PREFIX)):
            begin, end = header[key]["data_offsets"]
            shape, normalised = tuple(header[key]["shape"]), index["space"] == NORMALISED
            tensor = PlainTensor(header[key]["dtype"], shape, affine, normalised)
            name = key.removeprefix(PREFIX)
            yield name, (_LENGTH_BYTES + length + begin, end - begin), tensor, index["clips"].get(name, {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise BadInput(
            f"{path}: not a shard of latents with an {INDEX} ({type(e).__name__}: {e})",
            "make both anew with `vidlatent cache export --to safetensors`",
        ) from e


def _read_index(path: Path) -> Mapping | None:
    try:
        return _parse_index(path, path.stat().st_mtime_ns)
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=8)
def _parse_index(path: Path, _: int) -> Mapping | None:
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) and isinstance(found.get("weight_map"), dict) else None
