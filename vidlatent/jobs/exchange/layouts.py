"""One writer per tool, each in that tool's documented layout.

comfyui       NAME.latent: safetensors `latent_tensor` [1, C, t, h, w], marker of version 0; raw
musubi        NAME_00000-FFF_WWWWxHHHH_ARCH.safetensors: `latents_{t}x{h}x{w}_{dtype}` [C, t, h, w];
              raw for hv, normalised for wan
ltx           NAME.pt: dict of `latents` [C, t, h, w], `num_frames` t, `height` h, `width` w, `fps`;
              normalised
fastvideo     data_chunk_N.parquet: `vae_latent_bytes`, `_shape`, `_dtype` …, a row per clip; raw
finetrainers  latent-0-N.pt: dict of `latents` [1, 2C, t, h, w] (moments), `latents_mean`, `latents_std`; raw
webdataset    shard-N.tar: KEY.latent as it is, KEY.json the manifest's row; raw
safetensors   shard-N.safetensors: `latents/NAME` [t, C, h, w]; index.json: tensor → file; raw
"""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from vidlatent.errors import UsageError
from vidlatent.files import replace_on_close
from vidlatent.jobs.cache.shards import add
from vidlatent.jobs.exchange.export import NORMALISED, RAW, ExportOptions, Piece, Writer

# Of musubi-tuner: short name → name in the file, and the space of its own caches.
MUSUBI = {"hv": ("hunyuan_video", RAW), "wan": ("wan", NORMALISED)}
FASTVIDEO_ROWS = 64  # per file


def comfyui(pieces: Iterable[Piece], target: Path, options: ExportOptions) -> Iterator[Path]:
    """What ComfyUI's LoadLatent takes; the empty tensor tells it not to scale as it did before version 0."""
    for piece in pieces:
        tensors = {
            "latent_tensor": piece.latents(RAW)[None],
            "latent_format_version_0": torch.zeros(0),
        }
        yield _safetensors(target / f"{piece.name}.latent", tensors)


def musubi(pieces: Iterable[Piece], target: Path, options: ExportOptions) -> Iterator[Path]:
    """musubi-tuner's latent cache."""
    if options.architecture not in MUSUBI:
        raise UsageError(f"--architecture {options.architecture}: unknown", f"one of {', '.join(MUSUBI)}")
    full_name, space = MUSUBI[options.architecture]
    for piece in pieces:
        row, latents = piece.row, piece.latents(space)
        t, h, w = latents.shape[1:]
        size = f"{row.width:04d}x{row.height:04d}"
        name = f"{piece.name}_00000-{row.frames:03d}_{size}_{options.architecture}.safetensors"
        metadata = {
            "architecture": full_name,
            "width": str(row.width),
            "height": str(row.height),
            "format_version": "1.0.1",
            "frame_count": str(row.frames),
        }
        yield _safetensors(target / name, {f"latents_{t}x{h}x{w}_{_dtype(latents)}": latents}, metadata)


def ltx(pieces: Iterable[Piece], target: Path, options: ExportOptions) -> Iterator[Path]:
    """The LTX-2 trainer's precomputed latents; its counts are of latents, not of frames and pixels."""
    for piece in pieces:
        latents = piece.latents(NORMALISED)
        t, h, w = latents.shape[1:]
        facts = {"num_frames": t, "height": h, "width": w, "fps": piece.fps()}
        yield _pickle(target / f"{piece.name}.pt", {"latents": latents, **facts})


def finetrainers(pieces: Iterable[Piece], target: Path, options: ExportOptions) -> Iterator[Path]:
    """finetrainers' precomputed latents: it keeps moments, and normalises and draws while training."""
    for number, piece in enumerate(pieces):
        shift, scale = piece.affine()
        item = {"latents": piece.moments()[None], "latents_mean": shift, "latents_std": scale}
        yield _pickle(target / f"latent-0-{number}.pt", item)


def fastvideo(pieces: Iterable[Piece], target: Path, options: ExportOptions) -> Iterator[Path]:
    """FastVideo's text-to-video parquet; text embeddings are left empty, captions are carried along."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as e:
        raise UsageError("--to fastvideo needs pyarrow", "pip install pyarrow") from e
    kinds = {"bytes": pyarrow.binary(), "shape": pyarrow.list_(pyarrow.int64()), "dtype": pyarrow.string()}
    tensors = [
        (f"{name}_{part}", kind) for name in ("vae_latent", "text_embedding") for part, kind in kinds.items()
    ]
    words = [(name, pyarrow.string()) for name in ("file_name", "caption", "media_type")]
    whole = [(name, pyarrow.int64()) for name in ("width", "height", "num_frames")]
    real = [(name, pyarrow.float64()) for name in ("duration_sec", "fps")]
    schema = pyarrow.schema([("id", pyarrow.string()), *tensors, *words, *whole, *real])
    for number, batch in enumerate(_batches(pieces, FASTVIDEO_ROWS)):
        path = target / f"data_chunk_{number}.parquet"
        with replace_on_close(path) as partial:
            parquet.write_table(
                pyarrow.Table.from_pylist([_fastvideo_row(piece) for piece in batch], schema), partial
            )
        yield path


def _fastvideo_row(piece: Piece) -> dict[str, object]:
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


def webdataset(pieces: Iterable[Piece], target: Path, options: ExportOptions) -> Iterator[Path]:
    """Tars that `LatentDataset` and `LatentStream` read, and every WebDataset loader: entries as they are."""
    for number, group in enumerate(_groups(pieces, options.shard_bytes)):
        path = target / f"shard-{number:06d}.tar"
        with replace_on_close(path) as partial, tarfile.open(partial, "w") as tar:
            for piece in group:
                row = json.dumps(asdict(piece.row), sort_keys=True).encode()
                key = piece.name.replace(".", "_")  # what follows a dot is a member's kind
                with piece.place.raw() as file:
                    add(tar, f"{key}.latent", file, piece.row.bytes)
                add(tar, f"{key}.json", io.BytesIO(row), len(row))
        yield path


def safetensors(pieces: Iterable[Piece], target: Path, options: ExportOptions) -> Iterator[Path]:
    """Many clips per safetensors file, and an index.json that says which tensor is where."""
    where: dict[str, str] = {}
    clips: dict[str, dict] = {}
    for number, group in enumerate(_groups(pieces, options.shard_bytes)):
        path = target / f"shard-{number:05d}.safetensors"
        tensors = {f"latents/{p.name}": p.latents(RAW).transpose(0, 1).contiguous() for p in group}
        where |= dict.fromkeys(tensors, path.name)
        clips |= {piece.name: asdict(piece.row) for piece in group}
        yield _safetensors(path, tensors, {"format": "pt"})
    path = target / "index.json"
    with replace_on_close(path) as partial:
        partial.write_text(json.dumps({"weight_map": where, "clips": clips}, indent=1) + "\n")
    yield path


LAYOUTS: dict[str, Writer] = {
    "comfyui": comfyui,
    "musubi": musubi,
    "ltx": ltx,
    "fastvideo": fastvideo,
    "finetrainers": finetrainers,
    "webdataset": webdataset,
    "safetensors": safetensors,
}


def _safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    with replace_on_close(path) as partial:
        save_file(tensors, partial, metadata)
    return path


def _pickle(path: Path, item: dict[str, object]) -> Path:
    """Plain tensors and numbers only: `torch.load(weights_only=True)` reads it."""
    with replace_on_close(path) as partial:
        torch.save(item, partial)
    return path


def _dtype(latents: Tensor) -> str:
    return str(latents.dtype).removeprefix("torch.")


def _batches(pieces: Iterable[Piece], size: int) -> Iterator[list[Piece]]:
    held = list(pieces)
    return (held[i : i + size] for i in range(0, len(held), size))


def _groups(pieces: Iterable[Piece], limit: int) -> Iterator[list[Piece]]:
    """Runs of clips of about `limit` bytes together, one clip at least."""
    held: list[Piece] = []
    size = 0
    for piece in pieces:
        if held and size + piece.row.bytes > limit:
            yield held
            held, size = [], 0
        held.append(piece)
        size += piece.row.bytes
    if held:
        yield held
