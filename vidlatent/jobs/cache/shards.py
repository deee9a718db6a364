"""Shards: many entries in one file, each byte for byte the `.latent` that it was before.

tar          KEY.latent, and KEY.json with what the manifest says of the clip: WebDataset
safetensors  KEY.header (the entry's own header, as bytes), KEY.latents [t, C, h, w], KEY.pts …: the
             tensors of an entry in the order it has them, so they lie in the shard as in its file.
             SHARD.json beside it says which tensors are where, and what the manifest says of each clip.

A shard is named by what is in it, and holds no date and no owner: the same entries make the same shard.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfileobj
from typing import BinaryIO

from vidlatent.errors import BadInput, UsageError, parameter
from vidlatent.files import replace_on_close
from vidlatent.io.latent.layout import LENGTH, TensorEntry, header_json, read_layout, write_header
from vidlatent.jobs.cache.manifest import Row

FORMAT = "vidlatent-shard"
_COPY_BYTES = 1 << 20
_ALIGN_BYTES = 64
_MAX_HEADER_BYTES = 100_000_000  # of the safetensors library
_TOLD = (
    *("key", "source", "span", "recipe", "source_sha256", "shape", "dtype", "frames", "width", "height"),
    *("bytes", "checksum", "read", "model", "facts"),
)


@dataclass(frozen=True)
class Sharding:
    """What kind of shards to make, and about how large in bytes."""

    kind: str
    bytes: int = 1 << 30

    def __post_init__(self) -> None:
        if self.kind not in WRITERS:
            raise UsageError(f"{parameter('shards')} {self.kind}: unknown", f"one of {', '.join(WRITERS)}")


class Unfit(Exception):
    """An entry that cannot be packed: gone meanwhile (`what` None), or not what its row says."""

    def __init__(self, row: Row, what: str | None = None) -> None:
        super().__init__(row.key)
        self.row, self.what = row, what


@dataclass(frozen=True)
class Member:
    """An entry to pack: its row, and its file."""

    row: Row
    path: Path

    def told(self) -> bytes:
        """What the manifest says of the clip, but when and how fast it was made."""
        return json.dumps({name: getattr(self.row, name) for name in _TOLD}, sort_keys=True).encode()

    def open(self) -> "Checked":
        """Its bytes, checked at their end; raises Unfit."""
        try:
            return Checked(self.path.open("rb"), self.row)
        except FileNotFoundError as e:
            raise Unfit(self.row) from e


class Checked:
    """A file that, once it is read to its end, must have been what its row says."""

    def __init__(self, file: BinaryIO, row: Row) -> None:
        self._file, self._row = file, row
        self._digest, self._left = hashlib.sha256(), row.bytes

    def read(self, size: int) -> bytes:
        """The next bytes; raises Unfit where they are not those that were written."""
        data = self._file.read(size)
        self._digest.update(data)
        self._left -= len(data)
        wrong = self._left == 0 and self._digest.hexdigest() != self._row.checksum
        if wrong or self._left < 0 or (self._left and len(data) < size):
            raise Unfit(self._row, f"{self._file.name}: not the file that was written (sha256 differs)")
        return data

    def __enter__(self) -> "Checked":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def write_shard(folder: Path, kind: str, members: Sequence[Member]) -> tuple[str, dict[str, int]]:
    """Write members into a shard below `folder`: its name, and where each key's bytes begin; raises Unfit."""
    members = sorted(members, key=lambda member: member.row.key)
    path = folder / f"shard-{_name(kind, members)}.{kind}"
    folder.mkdir(exist_ok=True)
    with replace_on_close(path) as partial:
        where = WRITERS[kind](partial, members)
    if kind == "safetensors":
        _write_index(path, members)
    return path.name, where


def _name(kind: str, members: Sequence[Member]) -> str:
    digest = hashlib.sha256(kind.encode())
    for member in members:
        digest.update(member.told())
    return digest.hexdigest()[:16]


def _write_tar(path: Path, members: Sequence[Member]) -> dict[str, int]:
    with tarfile.open(path, "w") as tar:
        for member in members:
            with member.open() as file:
                add(tar, f"{member.row.key}.latent", file, member.row.bytes)
            told = member.told()
            add(tar, f"{member.row.key}.json", io.BytesIO(told), len(told))
    return {key: offset for key, (offset, _) in tar_members(path).items()}


def add(tar: tarfile.TarFile, name: str, file: object, size: int) -> None:
    """A member without times or owners."""
    info = tarfile.TarInfo(name)
    info.size = size
    tar.addfile(info, file)  # type: ignore[arg-type]


def _write_safetensors(path: Path, members: Sequence[Member]) -> dict[str, int]:
    tensors: dict[str, TensorEntry] = {}
    begins, at = {}, 0
    for member in members:
        begins[member.row.key] = at
        tensors |= _tensors(member, at)
        at += member.row.bytes
    packed = json.dumps(header_json({"format": FORMAT}, tensors), separators=(",", ":")).encode()
    room = -(-(LENGTH.size + len(packed)) // _ALIGN_BYTES) * _ALIGN_BYTES
    with path.open("wb") as target:
        write_header(target, packed, room - LENGTH.size)
        for member in members:
            with member.open() as file:
                copyfileobj(file, target, _COPY_BYTES)
    return {key: room + begin for key, begin in begins.items()}


def _tensors(member: Member, at: int) -> dict[str, TensorEntry]:
    """An entry's own tensors where they will lie, its header before them."""
    key = member.row.key
    try:
        with member.path.open("rb") as file:
            layout = read_layout(file, member.row.bytes)
    except FileNotFoundError as e:
        raise Unfit(member.row) from e
    except ValueError as e:
        raise Unfit(member.row, f"{member.path}: {e}") from e
    data = at + layout.data_start
    own = {f"{key}.{n}": TensorEntry(e.dtype, e.shape, data + e.start) for n, e in layout.tensors.items()}
    return {f"{key}.header": TensorEntry("U8", (layout.data_start,), at)} | own


def _write_index(path: Path, members: Sequence[Member]) -> None:
    index = {
        "weight_map": {f"{member.row.key}.latents": path.name for member in members},
        "clips": {member.row.key: json.loads(member.told()) for member in members},
    }
    with replace_on_close(index_of(path)) as partial:
        partial.write_text(json.dumps(index, sort_keys=True) + "\n")


def index_of(path: Path) -> Path:
    """What lies beside a safetensors shard and says what is in it."""
    return path.with_suffix(".json")


WRITERS: dict[str, Callable[[Path, Sequence[Member]], dict[str, int]]] = {
    "tar": _write_tar,
    "safetensors": _write_safetensors,
}


def tar_members(path: Path) -> dict[str, tuple[int, int]]:
    """(offset, bytes) of the latents of every KEY in a tar."""
    with tarfile.open(path, "r:") as tar:
        split = ((member, *member.name.partition(".")) for member in tar)
        return {key: (m.offset_data, m.size) for m, key, _, suffix in split if suffix == "latent"}


def safetensors_members(path: Path) -> dict[str, tuple[int, int]]:
    """(offset, bytes) of every entry in a safetensors shard of ours; raises BadInput where it is none."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH.size), "little")
            if length > _MAX_HEADER_BYTES:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
        if header.pop("__metadata__")["format"] != FORMAT:
            raise ValueError("another format")
        spans = list(_spans(header, LENGTH.size + length))
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError) as e:
        raise BadInput(
            f"{path}: not a shard of latents ({e})", "make shards with `vidlatent cache --shards`"
        ) from e
    return {key: (start, stop - start) for key, start, stop in spans}


def _spans(header: dict, data_start: int) -> Iterator[tuple[str, int, int]]:
    """Where every entry begins and ends: its tensors follow one another."""
    found: dict[str, list[int]] = {}
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        span = found.setdefault(name.partition(".")[0], [begin, end])
        span[:] = [min(span[0], begin), max(span[1], end)]
    return ((key, data_start + begin, data_start + end) for key, (begin, end) in found.items())
