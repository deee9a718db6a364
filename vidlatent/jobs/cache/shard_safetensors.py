"""Shards of kind safetensors, which stock safetensors reads.

A shard holds KEY.header (the entry's own header, as bytes), KEY.latents [t, C, h, w], KEY.pts and so on: the
tensors of an entry in the order it has them, so that its bytes lie in the shard as in its file. SHARD.json
beside it is the index: which tensors are where, and what the manifest says of each clip.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import copyfileobj

from vidlatent.errors import BadInput
from vidlatent.files import naming_read_errors, replace_on_close
from vidlatent.io.latent.layout import LENGTH, TensorEntry, header_json, read_layout, write_header
from vidlatent.io.sources.patience import NoSuchObject
from vidlatent.jobs.cache.shard_member import ShardMember, Unfit

FORMAT = "vidlatent-shard"
_COPY_BYTES = 1 << 20
_ALIGN_BYTES = 64
_MAX_HEADER_BYTES = 100_000_000  # of the safetensors library


def write_safetensors(path: Path, members: Sequence[ShardMember]) -> dict[str, int]:
    """Write the shard; where each key's bytes begin."""
    tensors: dict[str, TensorEntry] = {}
    begins, at = {}, 0
    for member in members:
        begins[member.row.key] = at
        tensors |= _place_tensors(member, at)
        at += member.row.bytes
    packed = json.dumps(header_json({"format": FORMAT}, tensors), separators=(",", ":")).encode()
    room = -(-(LENGTH.size + len(packed)) // _ALIGN_BYTES) * _ALIGN_BYTES
    with path.open("wb") as target:
        write_header(target, packed, room - LENGTH.size)
        for member in members:
            with member.open() as file:
                copyfileobj(file, target, _COPY_BYTES)
    return {key: room + begin for key, begin in begins.items()}


def _place_tensors(member: ShardMember, at: int) -> dict[str, TensorEntry]:
    """The tensors of an entry where they will lie in the shard, its header as the first of them."""
    key = member.row.key
    try:
        with member.path.open("rb") as file:
            layout = read_layout(file, member.row.bytes)
    except (FileNotFoundError, NoSuchObject) as e:
        raise Unfit(member.row) from e
    except ValueError as e:
        raise Unfit(member.row, f"{member.path}: {e}") from e
    data = at + layout.data_start
    own = {f"{key}.{n}": TensorEntry(e.dtype, e.shape, data + e.start) for n, e in layout.tensors.items()}
    return {f"{key}.header": TensorEntry("U8", (layout.data_start,), at)} | own


def write_index(path: Path, members: Sequence[ShardMember]) -> None:
    """Write the index that lies beside the shard at `path`."""
    index = {
        "weight_map": {f"{member.row.key}.latents": path.name for member in members},
        "clips": {member.row.key: json.loads(member.describe()) for member in members},
    }
    with replace_on_close(index_path(path)) as partial:
        partial.write_text(json.dumps(index, sort_keys=True) + "\n")


def index_path(path: Path) -> Path:
    """Where the index of the shard at `path` lies."""
    return path.with_suffix(".json")


def read_index(path: Path) -> dict[str, dict]:
    """What the index at `path` says of each clip of its shard, by key; raises BadInput where damaged."""
    try:
        with naming_read_errors(path):
            clips = json.loads(path.read_bytes())["clips"]
        if not all(isinstance(clip, dict) for clip in clips.values()):
            raise ValueError("a clip that is no JSON object")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise BadInput(f"{path}: damaged ({e})", "it belongs to the shard of that name") from e
    return clips


def list_safetensors(path: Path) -> dict[str, tuple[int, int]]:
    """(offset, bytes) of every entry in a safetensors shard of ours; raises BadInput where it is none."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH.size), "little")
            if length > _MAX_HEADER_BYTES or file.peek(1)[:1] != b"{":
                raise ValueError(f"a header of {length} bytes that is no JSON object")
            header = json.loads(file.read(length))
        if header.pop("__metadata__")["format"] != FORMAT:
            raise ValueError("another format")
        spans = list(_find_spans(header, LENGTH.size + length))
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError) as e:
        raise BadInput(
            f"{path}: not a shard of latents ({e})",
            "make shards with `vidlatent cache --shards safetensors`",
        ) from e
    return {key: (start, stop - start) for key, start, stop in spans}


def _find_spans(header: dict, data_start: int) -> Iterator[tuple[str, int, int]]:
    """(key, begin, end) of every entry: its tensors follow one another."""
    found: dict[str, list[int]] = {}
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        span = found.setdefault(name.partition(".")[0], [begin, end])
        span[:] = [min(span[0], begin), max(span[1], end)]
    return ((key, data_start + begin, data_start + end) for key, (begin, end) in found.items())
