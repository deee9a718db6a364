"""What a file of latents that another program made says of itself, as one JSON object."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vidlatent.errors import BadInput, VidlatentError
from vidlatent.jobs.exchange.foreign import MUSUBI_KEY, SHARD_KEY, read_foreign
from vidlatent.jobs.exchange.importing import complete
from vidlatent.models.tensor_file import unpickled


def inspect_foreign(path: Path, verify: bool = False) -> dict[str, Any] | None:
    """Facts of latents in a layout of another program; None where the file holds none, but weights, say.

    Where there are several clips they are those of the first. `verify` reads all of them, and raises BadInput
    where a value is no number.
    """
    if path.suffix not in COUNTS or not path.is_file() or not (clips := COUNTS[path.suffix](path)):
        return None
    first = complete(next(read_foreign(path)), path)
    facts = {
        "file": str(path),
        "kind": "latents of another program",
        "layout": first.layout,
        "bytes": path.stat().st_size,
        "clips": clips,
        "first": first.name,
        "latents": list(first.latents.shape),
        "dtype": str(first.latents.dtype).removeprefix("torch."),
        **{name: getattr(first, name) for name in ("axes", "space", "moments")},
        "models": list(first.models),
        **{name: getattr(first, name) for name in ("fps", "frames", "width", "height")},
        "read_by": f"vidlatent import {path}",
        "verified": verify,
    }
    if verify:
        check_values(path)
    return facts


def check_values(path: Path) -> None:
    """Raise BadInput where a value of a clip in the file is NaN or infinite."""
    for clip in read_foreign(path):
        if not torch.isfinite(clip.latents).all():
            raise BadInput(f"{path}: {clip.name} has latents that are NaN or infinite", "make the file again")


def count_in_safetensors(path: Path) -> int:
    """How many clips lie in a file of tensors with names; 0 where these are no layout of latents."""
    try:
        with safe_open(path, "pt") as file:
            keys, facts = list(file.keys()), dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return 0
    if facts.get("format") == "vidlatent":
        return 0
    known = (
        len(keys) == 1 or "latent_tensor" in keys or "latent" in keys or any(map(MUSUBI_KEY.fullmatch, keys))
    )
    return sum(key.startswith(SHARD_KEY) for key in keys) or int(known)


def count_in_pickle(path: Path) -> int:
    """1 for a tensor, or a dict that has `latents`; 0 for the weights of a network, or what is not opened."""
    try:
        found, _ = unpickled(path)
    except VidlatentError:
        return 0
    return int(isinstance(found, Tensor) or (isinstance(found, dict) and "latents" in found))


def count_in_parquet(path: Path) -> int:
    """The rows of a table as FastVideo keeps latents in; 0 for another table."""
    with suppress(ImportError):
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        with suppress(ArrowException, OSError), ParquetFile(path) as file:
            return file.metadata.num_rows if "vae_latent_bytes" in file.schema_arrow.names else 0
    return 0


# How many clips a file holds, told without reading them.
COUNTS: Mapping[str, Callable[[Path], int]] = {
    ".latent": count_in_safetensors,
    ".safetensors": count_in_safetensors,
    ".pt": count_in_pickle,
    ".pth": count_in_pickle,
    ".npy": lambda path: 1,
    ".parquet": count_in_parquet,
}
