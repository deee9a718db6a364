"""The bytes of a safetensors file: a length, a JSON header, one buffer of tensors without gaps.

The safetensors library reads the same bytes. The header is parsed here, with limits, so that a damaged or
foreign file is refused with a reason before anything in it is used. Everything here raises ValueError;
whoever knows the file's name adds it.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from vidlatent.io.latent import strict_json as js

MAX_HEADER_BYTES = 1 << 20  # a thousand times what a header needs
MAX_TENSORS = 64
MAX_DIMENSIONS = 8
LENGTH = struct.Struct("<Q")
ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}


@dataclass(frozen=True)
class TensorEntry:
    """One tensor: its type, its shape, and where its bytes are, counted from the start of the data."""

    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def nbytes(self) -> int:
        """How many bytes the whole tensor takes."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]

    @property
    def row_bytes(self) -> int:
        """How many bytes one step along the first dimension takes."""
        return math.prod(self.shape[1:]) * ITEM_BYTES[self.dtype]

    @property
    def stop(self) -> int:
        """Where its bytes end, counted like `start`."""
        return self.start + self.nbytes


@dataclass(frozen=True)
class FileLayout:
    """A parsed header: `metadata`, and `tensors` in the order of their bytes, from `data_start` on."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorEntry]
    data_start: int

    @property
    def data_bytes(self) -> int:
        """How many bytes all tensors take together."""
        return max((entry.stop for entry in self.tensors.values()), default=0)


def header_json(metadata: Mapping[str, str], tensors: Mapping[str, TensorEntry]) -> dict[str, object]:
    """The header of any safetensors file as the JSON object that it is, tensors in the order given."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    for name, entry in tensors.items():
        offsets = [entry.start, entry.stop]
        header[name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": offsets}
    return header


def pack_header(metadata: Mapping[str, str], tensors: Mapping[str, TensorEntry]) -> bytes:
    """The header of a `.latent` as JSON text, without its length and without padding."""
    packed = js.dump(header_json(metadata, tensors)).encode()
    if len(packed) > MAX_HEADER_BYTES:
        raise ValueError(f"header: expected at most {MAX_HEADER_BYTES} bytes, got {len(packed)}")
    return packed


def write_header(file: BinaryIO, packed: bytes, room: int) -> None:
    """Write the length and the header at the start of `file`; spaces fill the JSON up to `room` bytes."""
    file.seek(0)
    file.write(LENGTH.pack(room) + packed.ljust(room))


def read_layout(file: BinaryIO, size: int) -> FileLayout:
    """Read the header of a file of `size` bytes; raises unless it describes exactly the bytes after it."""
    length = _read_length(file.read(LENGTH.size), size)
    raw = file.read(length)
    if not raw.startswith(b"{"):
        raise ValueError("not a .latent file (no safetensors header)")
    try:
        header = js.table(js.load(raw.decode(), "header"), "header")
    except UnicodeDecodeError as e:
        raise ValueError("header: not UTF-8 text") from e
    metadata = _parse_metadata(header.pop("__metadata__", {}))
    if len(header) > MAX_TENSORS:
        raise ValueError(f"header: expected at most {MAX_TENSORS} tensors, got {len(header)}")
    tensors = {name: _parse_entry(name, value) for name, value in header.items()}
    tensors = dict(sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)))
    _check_gapless(tensors)
    layout = FileLayout(metadata, tensors, LENGTH.size + length)
    _check_complete(layout, size - layout.data_start)
    return layout


def _read_length(prefix: bytes, size: int) -> int:
    if len(prefix) < LENGTH.size:
        raise ValueError(f"not a .latent file (expected at least 8 bytes, got {size})")
    (length,) = LENGTH.unpack(prefix)
    if length == 0:
        raise ValueError("unfinished file: its header was never written")
    if length > MAX_HEADER_BYTES:
        raise ValueError(
            f"not a .latent file (expected a header of at most {MAX_HEADER_BYTES} bytes, got {length})"
        )
    if length > size - LENGTH.size:
        raise ValueError(f"torn file: the header takes {length} bytes, found {size - LENGTH.size}")
    return length


def _parse_metadata(value: object) -> dict[str, str]:
    found = js.table(value, "metadata")
    for key, text in found.items():
        js.string(text, f"metadata {js.brief(key)}", MAX_HEADER_BYTES)
    return found  # type: ignore[return-value]


def _parse_entry(name: str, value: object) -> TensorEntry:
    what = f"tensor {js.brief(name)}"
    found = js.record(value, what, ("dtype", "shape", "data_offsets"))
    dtype = js.one_of(found["dtype"], f"{what} dtype", tuple(ITEM_BYTES))
    shape, offsets = found["shape"], found["data_offsets"]
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"{what} shape: expected at most {MAX_DIMENSIONS} sides, got {js.brief(shape)}")
    if not isinstance(offsets, list) or len(offsets) != 2:
        raise ValueError(f"{what} data_offsets: expected [start, stop], got {js.brief(offsets)}")
    sides = tuple(js.integer(side, f"{what} shape", 0, 1 << 62) for side in shape)
    start, stop = (js.integer(offset, f"{what} data_offsets", 0, 1 << 62) for offset in offsets)
    entry = TensorEntry(dtype, sides, start)
    if entry.stop != stop:
        raise ValueError(
            f"{what}: {dtype} {list(sides)} takes {js.brief(entry.nbytes)} bytes, "
            f"its offsets give {stop - start}"
        )
    return entry


def _check_gapless(tensors: Mapping[str, TensorEntry]) -> None:
    end = 0
    for name, entry in tensors.items():
        if entry.start != end:
            fault = "overlaps the one before it" if entry.start < end else "leaves a gap before it"
            raise ValueError(f"tensor {js.brief(name)} {fault}: expected offset {end}, got {entry.start}")
        end = entry.stop


def _check_complete(layout: FileLayout, found: int) -> None:
    if found == layout.data_bytes:
        return
    if found > layout.data_bytes:
        raise ValueError(f"header promises {layout.data_bytes} bytes of data, found {found}")
    name, entry = next((n, e) for n, e in layout.tensors.items() if e.stop > found)
    rows = (found - entry.start) // entry.row_bytes
    raise ValueError(
        f"torn file: header promises {entry.shape[0] if entry.shape else 1} rows of {js.brief(name)}, "
        f"found {rows} ({found} of {layout.data_bytes} bytes of data)"
    )
