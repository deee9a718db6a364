"""Shards of plain tensors, as `cache export --to safetensors` makes them, with one index.json for all."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from vidlatent.errors import BadInput, parameter
from vidlatent.io.file_parts import MappedPart
from vidlatent.io.latent import strict_json as js
from vidlatent.io.tensors import TORCH_DTYPES, bytes_of

INDEX = "index.json"
PREFIX = "latents/"
NORMALISED = "normalised"
_AXES = 4  # of latents: t, C, h, w
_AGAIN = "make both anew with `vidlatent cache export --to safetensors`"
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
        self._path = path
        try:
            self._map, self._tensor = MappedPart(path, part), tensor
        except ValueError as e:
            raise BadInput(f"{path}: {e}", _AGAIN) from e

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

    def read_raw(self, start: int, stop: int, name: str = "latents") -> tuple[Tensor, Tensor]:
        """Raise BadInput: a tensor of floats has no codes."""
        raise BadInput(f"{self._path}: holds latents as floats", f"leave {parameter('raw')} out")

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
            if length > _MAX_HEADER_BYTES or file.peek(1)[:1] != b"{":
                raise ValueError(f"a header of {length} bytes that is no JSON object")
            header = json.loads(file.read(length))
        affine = Affine(js.numbers(index["scale"], "scale"), js.numbers(index["shift"], "shift"))
        rows = js.table(index["clips"], "clips")
        for key in (key for key in header if key.startswith(PREFIX)):
            place, tensor = _read_entry(header[key], affine, index["space"] == NORMALISED)
            name = key.removeprefix(PREFIX)
            row = js.table(rows.get(name, {}), f"clips: {name[:80]}")
            yield name, (_LENGTH_BYTES + length + place[0], place[1]), tensor, row
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise BadInput(
            f"{path}: not a shard of latents with an {INDEX} ({type(e).__name__}: {str(e)[:200]})", _AGAIN
        ) from e


def _read_entry(entry: object, affine: Affine, normalised: bool) -> tuple[tuple[int, int], PlainTensor]:
    """(offset, bytes) of a tensor among the data, and what it is; ValueError where it is no latents."""
    begin, end = (js.integer(offset, "data_offsets", 0, 1 << 62) for offset in entry["data_offsets"])
    shape = tuple(js.integer(side, "shape", 1, 1 << 31) for side in entry["shape"])
    dtype = js.one_of(entry["dtype"], "dtype", tuple(TORCH_DTYPES))
    if len(shape) != _AXES or end - begin != prod(shape) * TORCH_DTYPES[dtype].itemsize:
        raise ValueError(f"{dtype} {list(shape)[:8]} in {end - begin} bytes")
    for values in vars(affine).values():
        if len(values) not in (1, shape[1]):
            raise ValueError(f"{len(values)} values of scale or shift for {shape[1]} channels")
    return (begin, end - begin), PlainTensor(dtype, shape, affine, normalised)


def _read_index(path: Path) -> Mapping | None:
    try:
        return _parse_index(path, path.stat().st_mtime_ns)
    except (OSError, ValueError, RecursionError):
        return None


@lru_cache(maxsize=8)
def _parse_index(path: Path, _: int) -> Mapping | None:
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) and isinstance(found.get("weight_map"), dict) else None
