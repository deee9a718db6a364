"""WebDataset: shard-N.tar, for `LatentDataset`, `LatentStream` and every WebDataset loader.

KEY.latent is the entry as it is in the cache (raw), KEY.json the manifest's row.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from vidlatent.files import replace_on_close
from vidlatent.jobs.cache.shard_tar import add_to_tar
from vidlatent.jobs.exchange.files import group_by_bytes
from vidlatent.jobs.exchange.tool import ExportOptions, Piece


def write(pieces: Sequence[Piece], target: Path, options: ExportOptions) -> Iterator[Path]:
    """One file for clips of about `shard_bytes` together."""
    for number, group in enumerate(group_by_bytes(pieces, options.shard_bytes)):
        path = target / f"shard-{number:06d}.tar"
        with replace_on_close(path) as partial, tarfile.open(partial, "w") as tar:
            for piece in group:
                row = json.dumps(asdict(piece.row), sort_keys=True).encode()
                key = piece.name.replace(".", "_")  # what follows a dot is a member's kind
                with piece.place.open_raw() as file:
                    add_to_tar(tar, f"{key}.latent", file, piece.row.bytes)
                add_to_tar(tar, f"{key}.json", io.BytesIO(row), len(row))
        yield path
