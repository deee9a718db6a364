"""SimpleTuner's VAE cache: vae/FOLDERS/HASH.pt, where HASH is the sha256 of the video's stem.

A file is a bare tensor [C, t, h, w], normalised for the families here. FOLDERS are those of the video below
`instance_data_dir`. SimpleTuner also keeps what it found out about every file; it makes that itself, by a
scan of the videos.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from vidlatent.errors import UsageError
from vidlatent.jobs.exchange.files import write_pt
from vidlatent.jobs.exchange.needs import NORMALISED
from vidlatent.jobs.exchange.one_per_file import name_by_file, refuse_others
from vidlatent.jobs.exchange.piece import Piece
from vidlatent.jobs.exchange.tool import Export, OutFile, Tool

CACHE, CAPTIONS = PurePosixPath("vae"), PurePosixPath("captions")


def plan(export: Export) -> Iterator[OutFile]:
    """One file per clip."""
    refuse_others(export, "SimpleTuner")
    found: dict[str, Piece] = {}
    for piece in export.pieces:
        name = hashlib.sha256(piece.file.stem.encode(errors="surrogateescape")).hexdigest()
        path = str(CACHE / piece.folder / f"{name}.pt")
        if path in found:
            raise UsageError(
                f"{piece.row.source}: SimpleTuner keeps it under one name with {found[path].row.source}",
                "rename one of them: names must differ before the last dot",
            )
        found[path] = piece
        yield OutFile(path, (piece,), partial(_write, piece))


def _write(piece: Piece, path: Path) -> None:
    write_pt(path, piece.latents(NORMALISED))


def lists(export: Export) -> Mapping[str, str]:
    """The captions, as files to lie beside the videos."""
    with_words = (piece for piece in export.pieces if piece.caption)
    return {str(CAPTIONS / p.folder / f"{p.file.stem}.txt"): f"{p.caption}\n" for p in with_words}


def steps(export: Export) -> Iterable[str]:
    """Where the files must lie, and what SimpleTuner must still find out by itself."""
    return (
        "In multidatabackend.json: cache_dir_vae names the folder vae/ here, instance_data_dir the videos,",
        "crop: true, and resolution, video.num_frames and the aspect buckets those of this cache.",
        "Captions: cp -rn captions/. VIDEOS/, with caption_strategy textfile.",
        "At its first start SimpleTuner scans the videos and writes its aspect_ratio_bucket_*.json files.",
        "After that it finds these latents by their names, and encodes only what is missing.",
    )


TOOL = Tool(plan, steps, lists, naming=name_by_file, captioned=True)
