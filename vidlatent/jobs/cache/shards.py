"""Shards: many entries in one file, each byte for byte the `.latent` that it was before.

A shard is named by what is in it, and holds no date and no owner: the same entries make the same shard.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidlatent.durable import make_folder
from vidlatent.errors import UsageError, parameter
from vidlatent.files import naming_disk_errors, replace_on_close
from vidlatent.jobs.cache.shard_member import ShardMember
from vidlatent.jobs.cache.shard_safetensors import write_index, write_safetensors
from vidlatent.jobs.cache.shard_tar import write_tar

WRITERS: Mapping[str, Callable[[Path, Sequence[ShardMember]], dict[str, int]]] = {
    "tar": write_tar,
    "safetensors": write_safetensors,
}


@dataclass(frozen=True)
class Sharding:
    """Which kind of shards to make, and about how large in bytes."""

    kind: str
    bytes: int = 1 << 30

    def __post_init__(self) -> None:
        if self.kind not in WRITERS:
            raise UsageError(f"{parameter('shards')} {self.kind}: unknown", f"one of {', '.join(WRITERS)}")


def write_shard(folder: Path, kind: str, members: Sequence[ShardMember]) -> tuple[Path, dict[str, int]]:
    """Write members into a shard in `folder`; its path, and where each key's bytes begin. Raises Unfit."""
    members = sorted(members, key=lambda member: member.row.key)
    path = folder / f"shard-{_make_name(kind, members)}.{kind}"
    with naming_disk_errors(folder):
        make_folder(folder)
    with replace_on_close(path) as partial:
        where = WRITERS[kind](partial, members)
    if kind == "safetensors":
        write_index(path, members)
    return path, where


def _make_name(kind: str, members: Sequence[ShardMember]) -> str:
    digest = hashlib.sha256(kind.encode())
    for member in members:
        digest.update(member.describe())
    return digest.hexdigest()[:16]
