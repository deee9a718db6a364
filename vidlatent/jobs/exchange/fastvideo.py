"""FastVideo's text-to-video parquet: data_chunk_N.parquet, a row per clip.

`vae_latent_bytes`, `_shape` and `_dtype` hold the latents [C, t, h, w] in raw float32. Text embeddings are
left empty; captions are carried along.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from vidlatent.errors import UsageError, parameter
from vidlatent.files import replace_on_close
from vidlatent.jobs.exchange.tool import RAW, ExportOptions, Piece

ROWS = 64  # per file


def write(pieces: Sequence[Piece], target: Path, options: ExportOptions) -> Iterator[Path]:
    """One file for every 64 clips."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as e:
        raise UsageError(f"{parameter('tool')} fastvideo needs pyarrow", "pip install pyarrow") from e
    kinds = {"bytes": pyarrow.binary(), "shape": pyarrow.list_(pyarrow.int64()), "dtype": pyarrow.string()}
    tensors = [
        (f"{name}_{part}", kind) for name in ("vae_latent", "text_embedding") for part, kind in kinds.items()
    ]
    words = [(name, pyarrow.string()) for name in ("file_name", "caption", "media_type")]
    whole = [(name, pyarrow.int64()) for name in ("width", "height", "num_frames")]
    real = [(name, pyarrow.float64()) for name in ("duration_sec", "fps")]
    schema = pyarrow.schema([("id", pyarrow.string()), *tensors, *words, *whole, *real])
    for number, first in enumerate(range(0, len(pieces), ROWS)):
        path = target / f"data_chunk_{number}.parquet"
        rows = [_row(piece) for piece in pieces[first : first + ROWS]]
        with replace_on_close(path) as partial:
            parquet.write_table(pyarrow.Table.from_pylist(rows, schema), partial)
        yield path


def _row(piece: Piece) -> dict[str, object]:
    row, latents, fps = piece.row, piece.latents(RAW).float(), piece.fps()
    return {
        "id": piece.name,
        "vae_latent_bytes": latents.numpy().tobytes(),
        "vae_latent_shape": list(latents.shape),
        "vae_latent_dtype": "float32",
        "text_embedding_bytes": b"",
        "text_embedding_shape": [],
        "text_embedding_dtype": "",
        "file_name": piece.name,
        "caption": str(row.facts.get("caption", row.facts.get("txt", ""))),
        "media_type": "video" if row.frames > 1 else "image",
        "width": row.width,
        "height": row.height,
        "num_frames": latents.shape[1],
        "duration_sec": row.frames / fps if fps else 0.0,
        "fps": fps,
    }
