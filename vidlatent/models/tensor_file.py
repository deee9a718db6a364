"""What a weight file holds, told without reading its tensors, and each tensor by itself.

A file may be a full model of many gigabytes of which a network wants a part, so nothing is read but what is
asked for; and that goes into memory of its own, without the pages of a mapped file beside it.
"""

import json
import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vidlatent.allocator import drop_pages
from vidlatent.errors import BadWeights
from vidlatent.models.base import Shapes

QUOTED = 3  # how many keys an error names before it only counts
_AGAIN = "download or copy it again"
_SAFE = "convert them to safetensors with the code that made them"
_STOPPED = re.compile(
    r"unsupported (operand|global|class):? (GLOBAL )?[\w.]+", re.IGNORECASE
)  # torch's words
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class TensorFile:
    """The tensors of an open weight file by name: their shapes and dtypes, and what reads one of them."""

    path: Path
    shapes: Shapes
    dtypes: Mapping[str, str]  # such as "bfloat16"
    read: Callable[[str], Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)  # of a safetensors file


@contextmanager
def opened(path: Path) -> Iterator[TensorFile]:
    """A .safetensors file or a checkpoint; raises BadWeights where it is neither, or is torn."""
    if _is_safetensors(path):
        with path.open("rb", buffering=0) as file:
            yield _safetensors(path, file)
    else:
        checkpoint, mapped = unpickled(path)
        tensors = state_of(checkpoint, path)
        shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
        dtypes = {key: _spelled(tensor.dtype) for key, tensor in tensors.items()}

        def read(key: str) -> Tensor:
            return _copied_out(tensors[key]) if mapped else tensors[key]

        yield TensorFile(path, shapes, dtypes, read)


def shapes_in(path: Path) -> Shapes:
    """The keys of a weight file and the shapes of their tensors."""
    with opened(path) as file:
        return file.shapes


def metadata_in(path: Path) -> Mapping[str, str]:
    """What a safetensors file says of itself beside its tensors."""
    with opened(path) as file:
        return file.metadata


def _safetensors(path: Path, file: BinaryIO) -> TensorFile:
    """A safetensors file, its header checked by the library of that name and its faults told as ours."""
    if file.read(9)[8:] != b"{":  # before the library reads up to 100 MB of it
        raise BadWeights(f"{path}: torn or not safetensors (no header)", _AGAIN)
    file.seek(0)
    try:
        with safe_open(path, framework="pt"):
            pass
    except SafetensorError as e:
        raise BadWeights(f"{path}: torn or not safetensors ({str(e)[:200]})", _AGAIN) from e
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    metadata = header.pop("__metadata__", {})
    shapes = {key: tuple(entry["shape"]) for key, entry in header.items()}
    dtypes = {key: _DTYPES.get(entry["dtype"], entry["dtype"]) for key, entry in header.items()}

    def read(key: str) -> Tensor:
        dtype, start = dtypes[key], 8 + length + header[key]["data_offsets"][0]
        if isinstance(dtype, str):
            raise BadWeights(
                f"{path}: {key} is {dtype}", "use a file with this network in bf16, fp16 or fp32"
            )
        tensor = torch.empty(prod(shapes[key]) * dtype.itemsize, dtype=torch.uint8)
        _fill(tensor, file, start, path)
        return tensor.view(dtype).view(shapes[key])

    return TensorFile(path, shapes, {key: _spelled(dtype) for key, dtype in dtypes.items()}, read, metadata)


def _fill(tensor: Tensor, file: BinaryIO, start: int, path: Path) -> None:
    """Read the bytes of the file from `start` on into a tensor of bytes."""
    file.seek(start)
    rest = memoryview(tensor.numpy())
    while rest:
        count = file.readinto(rest)
        if not count:
            raise BadWeights(f"{path}: torn: ends before its header says", _AGAIN)
        rest = rest[count:]


def _spelled(dtype: torch.dtype | str) -> str:
    return str(dtype).removeprefix("torch.")


def _is_safetensors(path: Path) -> bool:
    """By content where there is any: the file begins with a length of eight bytes, then JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{" or path.suffix == ".safetensors"


def _copied_out(tensor: Tensor) -> Tensor:
    """A copy of a tensor that is mapped from a file, whose pages are let go."""
    copy, storage = tensor.clone(), tensor.untyped_storage()
    drop_pages(storage.data_ptr(), storage.nbytes())
    return copy


def unpickled(path: Path) -> tuple[object, bool]:
    """What a PyTorch checkpoint holds, and whether tensors are mapped from it; nothing in it is ever run."""
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"  # the format before it cannot be mapped
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a damaged file: what it means is said below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped), zipped
    except pickle.UnpicklingError as e:
        # Only what stopped it is said: the first lines advise to open the file all the same.
        found = _STOPPED.search(str(e))
        if found and "operand" in found[0]:
            raise BadWeights(f"{path}: torn or no checkpoint ({found[0]})", _AGAIN) from e
        reason = f" ({found[0]})" if found else ""
        raise BadWeights(f"{path}: holds more than tensors, and is not opened{reason}", _SAFE) from e
    except Exception as e:  # whatever a damaged archive makes the reader trip over
        reason = str(e).strip().splitlines()[0][:200] if str(e).strip() else type(e).__name__
        raise BadWeights(f"{path}: torn or no checkpoint ({reason})", _AGAIN) from e


def state_of(checkpoint: object, path: Path) -> Mapping[str, Tensor]:
    """The network's tensors in any of the layouts that training scripts write.

    The moving average of the weights where there is one, as the authors prefer; else `state_dict`,
    `model` or `module`, or the generator in it; else the checkpoint itself.
    """
    state = _names(checkpoint, "file", path)
    if state.get("ema_state_dict"):
        average = _names(state["ema_state_dict"], "ema_state_dict", path)
        state = {key.replace("module.", ""): value for key, value in average.items()}
    else:
        for part in ("state_dict", "model", "module", "gen_model"):
            state = _names(state.get(part, state), part, path)
    strange = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise BadWeights(f"{path}: {quoted(strange)} should be tensors, and are not", _SAFE)
    return state


def _names(value: object, part: str, path: Path) -> Mapping[str, object]:
    """`value`, known to map names to something; `part` says which part of the checkpoint it is."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        kind = type(value).__name__
        raise BadWeights(f"{path}: its {part} is a {kind}, expected tensors by name", _SAFE)
    return value


def quoted(keys: list[str]) -> str:
    """A count of keys and the first few of them."""
    shown = ", ".join(keys[:QUOTED]) + (" …" if len(keys) > QUOTED else "")
    return f"{len(keys)} key{'s' * (len(keys) != 1)} ({shown})"
