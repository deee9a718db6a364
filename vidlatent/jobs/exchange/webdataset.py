"""WebDataset: shard-N.tar, for `LatentDataset`, `LatentStream` and every WebDataset loader.

KEY.latent is the entry as it is in the cache (raw), KEY.json the manifest's row.
"""

import io
import json
import tarfile
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

from vidlatent.jobs.cache.shard_tar import add_to_tar
from vidlatent.jobs.exchange.files import count_names, group_by_bytes
from vidlatent.jobs.exchange.piece import Piece, by_file
from vidlatent.jobs.exchange.tool import Export, OutFile, Tool


def without_dots(piece: Piece) -> tuple[Hashable, Iterable[str]]:
    """As by_file; what follows a dot would be a member's kind."""
    subject, names = by_file(piece)
    return subject, (name.replace(".", "_") for name in names)


def plan(export: Export) -> Iterator[OutFile]:
    """One file for clips of about `shard_bytes` together."""
    names = count_names("shard-{:06d}.tar", export.taken)
    for group in group_by_bytes(export.pieces, export.options.shard_bytes):
        yield OutFile(next(names), tuple(group), partial(_write, group))


def _write(group: list[Piece], path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for piece in group:
            row = json.dumps(asdict(piece.row), sort_keys=True).encode()
            with piece.place.open_raw() as file:
                add_to_tar(tar, f"{piece.name}.latent", file, piece.row.bytes)
            add_to_tar(tar, f"{piece.name}.json", io.BytesIO(row), len(row))


def steps(export: Export) -> Iterable[str]:
    """How to read them."""
    return (
        'In Python: vidlatent.LatentStream("THIS_FOLDER", normalise=True), or vidlatent.LatentDataset.',
        "Any WebDataset loader reads the tars as well: KEY.latent and KEY.json are a sample.",
    )


TOOL = Tool(plan, steps, naming=without_dots, always_raw=True)
