"""WebDataset: shard-N.tar, for `LatentDataset`, `LatentStream` and every WebDataset loader.

KEY.latent is the entry as it is in the cache (raw), or in the form that was asked for; KEY.json is the row of
the manifest.
"""

import io
import json
import tarfile
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from vidlatent.files import sha256_file
from vidlatent.jobs.cache.manifest import ManifestRow
from vidlatent.jobs.cache.shard_tar import add_to_tar
from vidlatent.jobs.exchange.files import count_names, group_by_bytes
from vidlatent.jobs.exchange.piece import Piece, by_file
from vidlatent.jobs.exchange.tool import Export, OutFile, Tool
from vidlatent.jobs.repack import RepackOptions, describe_repacked, write_as


def without_dots(piece: Piece) -> tuple[Hashable, Iterable[str]]:
    """As by_file; what follows a dot would be a member's kind."""
    subject, names = by_file(piece)
    return subject, (name.replace(".", "_") for name in names)


def plan(export: Export) -> Iterator[OutFile]:
    """One file for clips of about `shard_bytes` together."""
    names = count_names("shard-{:06d}.tar", export.taken)
    for group in group_by_bytes(export.pieces, export.options.shard_bytes):
        yield OutFile(next(names), tuple(group), partial(_write, group, export.options.form))


def _write(group: list[Piece], form: RepackOptions | None, path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for piece in group:
            with _give(piece, form, path.with_name(f"{path.name}.clip")) as (file, row):
                add_to_tar(tar, f"{piece.name}.latent", file, row.bytes)
            told = json.dumps(asdict(row), sort_keys=True).encode()
            add_to_tar(tar, f"{piece.name}.json", io.BytesIO(told), len(told))


@contextmanager
def _give(piece: Piece, form: RepackOptions | None, aside: Path) -> Iterator[tuple[BinaryIO, ManifestRow]]:
    """The bytes of an entry and its row, as they are, or in a form; then they lie in the file `aside`."""
    if form is None:
        with piece.place.open_raw() as file:
            yield file, piece.row
        return
    try:
        with piece.place.open() as latents:
            wanted = form.choose_form(latents)
            write_as(latents, aside, wanted, describe_repacked(latents))
        facts = {"bytes": aside.stat().st_size, "checksum": sha256_file(aside)}
        with aside.open("rb") as file:
            yield file, replace(piece.row, dtype=wanted.dtype, form=wanted.name, **facts)
    finally:
        aside.unlink(missing_ok=True)


def steps(export: Export) -> Iterable[str]:
    """How to read them."""
    return (
        'In Python: vidlatent.LatentStream("THIS_FOLDER", normalise=True), or vidlatent.LatentDataset.',
        "Any WebDataset loader reads the tars as well: KEY.latent and KEY.json are a sample.",
    )


TOOL = Tool(plan, steps, naming=without_dots, always_raw=True, as_stored=True)
