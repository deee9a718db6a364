"""Files of latents that other programs made: what each holds, as far as it can be told.

Tensors only are read. A pickle that holds code, as old `.pt` files may, is refused before any of it runs.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vidlatent.errors import BadInput, UsageError
from vidlatent.jobs.exchange.needs import NEEDS, NORMALISED, RAW, Needs
from vidlatent.jobs.exchange.safetensors import INDEX
from vidlatent.models import registry

COMFYUI = "ComfyUI"
COMFYUI_SCALE = 0.18215  # of files without the marker of version 0, as ComfyUI itself takes them
COMFYUI_NORMALISED = (24, 128)  # channels of MiniMax-H3 and of LTX, whose latents it keeps normalised
MUSUBI_KEY = re.compile(r"latents_(\d+)x(\d+)x(\d+)_\w+")
SHARD_KEY = "latents/"


@dataclass(frozen=True)
class Foreign:
    """Latents as a file holds them, and what its layout says of them.

    `axes` is their order, where the layout says it. `models` are the VAEs whose latents such a file holds;
    none where it may be any. `space` None: the layout does not say it. `moments`: the second half of the
    channels is logvar. `frames`, `width` and `height` are of the clip, `fps` its rate.
    """

    name: str
    layout: str
    latents: Tensor
    axes: str | None = None
    models: tuple[str, ...] = ()
    space: str | None = None
    moments: bool = False
    fps: float | None = None
    frames: int | None = None
    width: int | None = None
    height: int | None = None


def read_foreign(path: Path) -> Iterator[Foreign]:
    """The clips in a file, one after the other; raises BadInput where it is of no known kind."""
    if path.suffix not in READERS:
        raise BadInput(f"{path}: no file of latents, by its name", f"known are {', '.join(READERS)}")
    if not path.is_file():
        raise BadInput(f"{path}: no such file", "check the path")
    yield from READERS[path.suffix](path)


def _needs(tool: str, architecture: str = "") -> Needs:
    return NEEDS[tool][architecture]


def _read_safetensors(path: Path) -> Iterator[Foreign]:
    try:
        with safe_open(path, "pt") as file:
            keys, facts = list(file.keys()), dict(file.metadata() or {})
            yield from _find_layout(path, keys, facts, file.get_tensor)
    except (SafetensorError, OSError) as e:
        raise BadInput(f"{path}: no safetensors file that is whole ({str(e)[:200]})", "make it again") from e


def _find_layout(
    path: Path, keys: list[str], facts: Mapping[str, str], tensor: Callable[[str], Tensor]
) -> Iterator[Foreign]:
    """The clips of a safetensors file, by its keys."""
    if facts.get("format") == "vidlatent":
        raise BadInput(f"{path}: is a .latent of vidlatent already", "decode it as it is")
    musubi = [key for key in keys if MUSUBI_KEY.fullmatch(key)]
    if "latent_tensor" in keys:
        yield _read_comfyui(path, tensor("latent_tensor"), "latent_format_version_0" in keys)
    elif musubi:
        yield _read_musubi(path, tensor(min(musubi)), facts)
    elif "latent" in keys:
        frames = int(tensor("num_frames")) if "num_frames" in keys else None
        yield Foreign(path.stem, "ai-toolkit", tensor("latent"), space=NORMALISED, frames=frames)
    elif any(key.startswith(SHARD_KEY) for key in keys):
        yield from _read_shard(path, [key for key in keys if key.startswith(SHARD_KEY)], tensor)
    elif len(keys) == 1:
        yield Foreign(path.stem, "a tensor", tensor(keys[0]))
    else:
        raise BadInput(
            f"{path}: {len(keys)} tensors ({', '.join(sorted(keys)[:4])} …) of no known layout",
            "save the latents alone, as one tensor",
        )


def _read_comfyui(path: Path, latents: Tensor, marked: bool) -> Foreign:
    """A clip [1, C, t, h, w], or the frames of an image VAE, [t, C, h, w]."""
    scaled = latents if marked else latents / COMFYUI_SCALE
    film = latents.dim() == 5
    space = NORMALISED if film and latents.shape[1] in COMFYUI_NORMALISED else RAW
    return Foreign(path.stem, COMFYUI, scaled, "BCTHW" if film else "TCHW", space=space)


def _read_musubi(path: Path, latents: Tensor, facts: Mapping[str, str]) -> Foreign:
    """A clip [C, t, h, w] or a picture [C, h, w]; the end of the file's name says the architecture."""
    architecture = path.stem.rpartition("_")[2]
    if architecture not in NEEDS["musubi"]:
        known = ", ".join(NEEDS["musubi"])
        raise BadInput(
            f"{path}: musubi-tuner's latents for {architecture!r}, unknown here",
            f"its name must end in _ARCH.safetensors, ARCH one of {known}",
        )
    needs = _needs("musubi", architecture)
    sizes = {name: int(text) for name in ("width", "height") if (text := facts.get(name, "")).isdecimal()}
    frames = facts.get("frame_count", "")
    return Foreign(
        *(path.stem, f"musubi:{architecture}", latents, "CTHW" if latents.dim() == 4 else "CHW"),
        models=needs.models,
        space=needs.space,
        fps=1 if needs.still else needs.fps,
        frames=int(frames) if frames.isdecimal() else None,
        **sizes if not needs.still else {},  # a picture's is the size before it was scaled
    )


def _read_shard(path: Path, keys: list[str], tensor: Callable[[str], Tensor]) -> Iterator[Foreign]:
    """The clips of our own export as plain safetensors, [t, C, h, w]."""
    index_path = path.with_name(INDEX)
    try:
        index = json.loads(index_path.read_text(encoding="utf-8")) if index_path.exists() else {}
    except ValueError as e:
        raise BadInput(f"{index_path}: not JSON ({e})", "it belongs to the shards beside it") from e
    known = (index["model"],) if index.get("model") in registry.names() else ()
    for key in sorted(keys):
        row = index.get("clips", {}).get(key.removeprefix(SHARD_KEY), {})
        sizes = {name: row[name] for name in ("frames", "width", "height") if row.get(name)}
        name, space = key.rpartition("/")[2], index.get("space")
        yield Foreign(name, "safetensors", tensor(key), "TCHW", known, space, **sizes)


def _read_pt(path: Path) -> Iterator[Foreign]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # whatever unpickling refuses; torch's own advice is to run the code in it
        raise BadInput(
            f"{path}: holds more than tensors and plain values, or is cut off: not opened",
            "save the latents alone: torch.save(latents, path)",
        ) from e
    if isinstance(found, Tensor):
        yield Foreign(path.stem, "a tensor", found)
    elif isinstance(found, dict) and isinstance(found.get("latents"), Tensor):
        yield _read_dict(path, found)
    else:
        raise BadInput(f"{path}: neither a tensor nor a dict with `latents`", "save the latents alone")


def _read_dict(path: Path, found: Mapping[str, Any]) -> Foreign:
    """What the LTX trainers and finetrainers keep: they differ in the number of axes."""
    latents, fps = found["latents"], found.get("fps")
    sides = [found.get(name) for name in ("num_frames", "height", "width")]
    if latents.dim() == 2 and all(isinstance(side, int) for side in sides):
        if latents.shape[0] != np.prod(sides):
            raise BadInput(f"{path}: {list(latents.shape)} are not {sides} positions", "make it again")
        needs, packed = _needs("ltx-video"), latents.unflatten(0, sides)
        models = needs.models + _needs("ltx2").models  # whose trainer reads such files of its first days, too
        return Foreign(path.stem, "ltx-video", packed, "THWC", models, needs.space, fps=fps)
    if latents.dim() == 5:
        return Foreign(path.stem, "finetrainers", latents, space=RAW, moments=True)
    needs = _needs("ltx2")
    return Foreign(path.stem, "ltx2", latents, "CTHW", needs.models, needs.space, fps=fps)


def _read_npy(path: Path) -> Iterator[Foreign]:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)  # so that no shape asks for memory
        yield Foreign(path.stem, "a tensor", torch.from_numpy(np.array(found)))
    except (ValueError, TypeError, OSError, EOFError, OverflowError, SyntaxError, TokenError) as e:
        raise BadInput(f"{path}: not one array of numbers ({str(e)[:200]})", "save the latents alone") from e


def _read_parquet(path: Path) -> Iterator[Foreign]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as e:
        raise UsageError(f"{path}: reading parquet needs pyarrow", "pip install pyarrow") from e
    try:
        for batch in ParquetFile(path).iter_batches(batch_size=1):
            yield from (_read_fastvideo(path, row) for row in batch.to_pylist())
    except (ArrowException, OSError) as e:
        raise BadInput(f"{path}: no parquet that is whole ({e})", "make it again") from e


def _read_fastvideo(path: Path, row: Mapping[str, Any]) -> Foreign:
    """A row of FastVideo's: float32 bytes of [C, t, h, w], whatever its dtype says."""
    raw, shape = row.get("vae_latent_bytes"), row.get("vae_latent_shape")
    if not raw or not shape or len(raw) != 4 * np.prod(shape):
        raise BadInput(f"{path}: a row without latents of FastVideo (vae_latent_bytes, vae_latent_shape)")
    latents = torch.from_numpy(np.frombuffer(raw, np.float32).reshape(shape).copy())
    fps, duration = row.get("fps"), row.get("duration_sec")
    return Foreign(
        *(str(row.get("id") or path.stem), "fastvideo", latents, "CTHW"),
        space=RAW,
        fps=fps or None,
        frames=round(fps * duration) if fps and duration else None,
        width=row.get("width"),
        height=row.get("height"),
    )


READERS: Mapping[str, Callable[[Path], Iterator[Foreign]]] = {
    ".latent": _read_safetensors,
    ".safetensors": _read_safetensors,
    ".pt": _read_pt,
    ".pth": _read_pt,
    ".npy": _read_npy,
    ".parquet": _read_parquet,
}
