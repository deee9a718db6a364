"""ai-toolkit's latent cache: _latent_cache/STEM_HASH.safetensors in the folder of each video.

It holds `latent` [C, t, h, w], or [C, h, w] of a picture, normalised, and `num_frames` of a video. The hash
is that of everything that ai-toolkit decides about a file: how it is scaled and cut, how many frames it
takes, and which latent space they are in. So the size of the video itself must be known, and a file has one
clip.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from math import ceil
from pathlib import Path

import torch

from vidlatent.errors import UsageError, VidlatentError
from vidlatent.io.read.source import open_video
from vidlatent.jobs.exchange.files import write_safetensors
from vidlatent.jobs.exchange.needs import NORMALISED
from vidlatent.jobs.exchange.one_per_file import name_by_file, refuse_others
from vidlatent.jobs.exchange.piece import Piece
from vidlatent.jobs.exchange.tool import Export, OutFile, Tool

LATENT_VERSION = 1
# Architectures whose latents it calls otherwise than the architecture.
LATENT_SPACES = {"ltx2": "ltx2_v2", "ltx2.3": "ltx2.3_v2", "ltx2.5": "ltx2.5_v2", "flux": "flux1"}


def plan(export: Export) -> Iterator[OutFile]:
    """One file per clip."""
    refuse_others(export, "ai-toolkit")
    for piece in export.pieces:
        facts = describe_file(piece, LATENT_SPACES.get(export.architecture, export.architecture))
        name = f"{piece.file.stem}_{make_hash(facts)}.safetensors"
        path = piece.folder / "_latent_cache" / name
        yield OutFile(str(path), (piece,), partial(_write, piece, facts))


def describe_file(piece: Piece, space: str) -> dict[str, object]:
    """What ai-toolkit decides about a file, where its dataset asks for the size and frames of this clip."""
    row = piece.row
    width, height = find_size(piece)
    scale = max(row.width / width, row.height / height)
    scaled_width, scaled_height = ceil(width * scale), ceil(height * scale)
    facts: dict[str, object] = {
        "filename": piece.file.name,
        "scale_to_width": scaled_width,
        "scale_to_height": scaled_height,
        "crop_x": int((scaled_width - row.width) / 2),
        "crop_y": int((scaled_height - row.height) / 2),
        "crop_width": row.width,
        "crop_height": row.height,
        "latent_space_version": space,
        "latent_version": LATENT_VERSION,
    }
    return facts | ({"num_frames": row.frames} if row.frames > 1 else {})


def find_size(piece: Piece) -> tuple[int, int]:
    """Width and height of the source as it is shown; it is opened where the clip was scaled or cut."""
    if not {"size", "crop"} & piece.row.read.keys():
        return piece.row.width, piece.row.height
    try:
        with open_video(piece.row.source) as video:
            return video.info.width, video.info.height
    except (VidlatentError, OSError) as e:
        raise UsageError(
            f"{piece.row.source}: its size must be known, and it cannot be opened ({e})",
            "put the videos back where they were cached from",
        ) from e


def make_hash(facts: Mapping[str, object]) -> str:
    """The hash in a file's name: of these facts alone."""
    digest = hashlib.md5(json.dumps(facts, sort_keys=True).encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().replace("=", "")


def _write(piece: Piece, facts: Mapping[str, object], path: Path) -> None:
    latents = piece.latents(NORMALISED)
    still = piece.row.frames == 1
    tensors = {"latent": latents[:, 0] if still else latents}
    if not still:
        tensors["num_frames"] = torch.tensor(piece.row.frames, dtype=torch.int32)
    write_safetensors(path, tensors, {name: str(value) for name, value in facts.items()})


def lists(export: Export) -> Mapping[str, str]:
    """The captions, beside where the videos lie."""
    return {str(p.folder / f"{p.file.stem}.txt"): f"{p.caption}\n" for p in export.pieces if p.caption}


def steps(export: Export) -> Iterable[str]:
    """Where the files must lie, and what the dataset must ask for."""
    frames = sorted({piece.row.frames for piece in export.pieces})
    sizes = sorted({f"{piece.row.width}x{piece.row.height}" for piece in export.pieces})
    return (
        "Copy this tree over the folder of the videos, so that _latent_cache/ lies beside them:",
        "    cp -rn . VIDEOS/",
        f"In the job: arch {export.architecture}, and for the dataset cache_latents_to_disk: true,",
        f"    num_frames: {', '.join(map(str, frames))}"
        + (" (one dataset for each)" if len(frames) > 1 else ""),
        f"and a resolution that makes its buckets {', '.join(sizes)}; leave fps and flips at their defaults.",
        "Where it does not find a file it encodes that video again.",
    )


TOOL = Tool(plan, steps, lists, naming=name_by_file, captioned=True)
