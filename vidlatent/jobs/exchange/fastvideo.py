"""FastVideo's text-to-video parquet: data_chunk_N.parquet, a row per clip.

`vae_latent_bytes`, `_shape` and `_dtype` hold the latents [C, t, h, w] in raw float32; it reads bytes as
float32 whatever the dtype says. `text_embedding_…` are those of a folder that the user names, [L, D] float32
without padding. Where there are none FastVideo trains on zeros, and says nothing.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidlatent.errors import UsageError, parameter
from vidlatent.jobs.exchange.embeddings import Embeddings
from vidlatent.jobs.exchange.files import count_names
from vidlatent.jobs.exchange.needs import RAW
from vidlatent.jobs.exchange.piece import Piece
from vidlatent.jobs.exchange.tool import Export, OutFile, Tool
from vidlatent.printable import spell_text

ROWS = 64  # per file
TEXT_WIDTH = {"wan": 4096}  # of its text encoder


def plan(export: Export) -> Iterator[OutFile]:
    """One file for every 64 clips."""
    schema = make_schema()
    folder = export.options.text_embeddings
    texts = Embeddings.find(folder, export.pieces, TEXT_WIDTH.get(export.architecture)) if folder else None
    names = count_names("data_chunk_{}.parquet", export.taken)
    for first in range(0, len(export.pieces), ROWS):
        group = export.pieces[first : first + ROWS]
        yield OutFile(next(names), group, partial(_write, group, schema, texts))


def make_schema() -> Any:
    """The columns; raises UsageError where pyarrow is missing."""
    try:
        import pyarrow
    except ImportError as e:
        raise UsageError(f"{parameter('tool')} fastvideo needs pyarrow", "pip install pyarrow") from e
    kinds = {"bytes": pyarrow.binary(), "shape": pyarrow.list_(pyarrow.int64()), "dtype": pyarrow.string()}
    tensors = [
        (f"{name}_{part}", kind) for name in ("vae_latent", "text_embedding") for part, kind in kinds.items()
    ]
    words = [(name, pyarrow.string()) for name in ("file_name", "caption", "media_type")]
    whole = [(name, pyarrow.int64()) for name in ("width", "height", "num_frames")]
    real = [(name, pyarrow.float64()) for name in ("duration_sec", "fps")]
    return pyarrow.schema([("id", pyarrow.string()), *tensors, *words, *whole, *real])


def _write(group: tuple[Piece, ...], schema: Any, texts: Embeddings | None, path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    rows = [make_row(piece, texts.read(piece) if texts else None) for piece in group]
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema), path)


def make_row(piece: Piece, text: Tensor | None) -> dict[str, object]:
    """The row of a clip."""
    row, latents, fps = piece.row, piece.latents(RAW).to(torch.float32), piece.fps()
    return {
        "id": spell_text(piece.name),
        **describe_tensor("vae_latent", latents),
        **describe_tensor("text_embedding", text),
        "file_name": spell_text(piece.name),
        "caption": spell_text(piece.caption),
        "media_type": "video" if row.frames > 1 else "image",
        "width": row.width,
        "height": row.height,
        "num_frames": latents.shape[1],
        "duration_sec": row.frames / fps if fps else 0.0,
        "fps": fps,
    }


def describe_tensor(name: str, tensor: Tensor | None) -> dict[str, object]:
    """The three columns of a float32 tensor; empty where there is none."""
    values = (b"", [], "") if tensor is None else (tensor.numpy().tobytes(), list(tensor.shape), "float32")
    return {f"{name}_{part}": value for part, value in zip(("bytes", "shape", "dtype"), values, strict=True)}


def steps(export: Export) -> Iterable[str]:
    """What to do with the folder, and what is missing in it."""
    yield "Name this folder by --data_path of FastVideo's training."
    if export.options.text_embeddings is None:
        yield "NO TEXT EMBEDDINGS are in it: it cannot be trained on, FastVideo would see zeros [512, 768]."
        yield "Export again with --text-embeddings FOLDER: a .pt, .npy or .safetensors [L, D] for each clip."
    yield "All rows of a batch are stacked: clips of several shapes need an export with --split-by-shape."
    yield "Remove map_style_cache/, which FastVideo makes here, whenever files were added."


TOOL = Tool(plan, steps, one_shape=True, captioned=True)
