"""Shards of kind tar, as WebDataset reads them: KEY.latent, and KEY.json with what its row says."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from vidlatent.jobs.cache.shard_member import ShardMember


def write_tar(path: Path, members: Sequence[ShardMember]) -> dict[str, int]:
    """Write the shard; where each key's bytes begin."""
    with tarfile.open(path, "w") as tar:
        for member in members:
            with member.open() as file:
                add_to_tar(tar, f"{member.row.key}.latent", file, member.row.bytes)
            described = member.describe()
            add_to_tar(tar, f"{member.row.key}.json", io.BytesIO(described), len(described))
    return {key: offset for key, (offset, _) in list_tar(path).items()}


def add_to_tar(tar: tarfile.TarFile, name: str, file: object, size: int) -> None:
    """Add a member without date or owner, so that equal contents make an equal tar."""
    info = tarfile.TarInfo(name)
    info.size = size
    tar.addfile(info, file)  # type: ignore[arg-type]


def list_tar(path: Path) -> dict[str, tuple[int, int]]:
    """(offset, bytes) of the latents of every KEY in a tar."""
    with tarfile.open(path, "r:") as tar:
        split = ((member, *member.name.partition(".")) for member in tar)
        return {key: (m.offset_data, m.size) for m, key, _, suffix in split if suffix == "latent"}
