"""musubi-tuner's latent cache: STEM_SSSSS-FFF_WWWWxHHHH_ARCH.safetensors, with videos.jsonl and dataset.toml.

S is the number of the clip's first frame, F how many there are; files of single pictures have neither. A file
holds `latents_{t}x{h}x{w}_{dtype}` [C, t, h, w], in the space of musubi-tuner's own caches. It trains on a
clip where STEM_ARCH_te.safetensors lies beside it. Its script for captions makes that of videos.jsonl, whose
paths it does not open: so clips of one file and one caption share a STEM, and others do not.

Batches are made of clips that fall into one bucket of its own. With `bucket_no_upscale`, and a `resolution`
that no clip exceeds in area, its bucket is the clip's own size, if the sides are multiples of 16.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vidlatent.errors import UsageError, parameter
from vidlatent.jobs.exchange.files import json_lines, write_safetensors
from vidlatent.jobs.exchange.piece import Piece
from vidlatent.jobs.exchange.tool import Export, OutFile, Tool

# Its short names → those in the header.
FULL_NAMES = {
    "hv": "hunyuan_video",
    "wan": "wan",
    "hv15": "hunyuan_video_1_5",
    "k5": "kandinsky5",
    "qi": "qwen_image",
    "fk": "flux_kontext",
    "zi": "z_image",
}
FLAT = ("fk", "zi")  # of a picture [C, h, w], though its key says t = 1
FRAMES_OF_A_LATENT = 4  # of Wan: as many channels has the mask of image-to-video
PICTURES = "images.jsonl"
# What its scripts begin with.
SCRIPTS = {
    "hv": "",
    "wan": "wan_",
    "hv15": "hv_1_5_",
    "k5": "kandinsky5_",
    "qi": "qwen_image_",
    "fk": "flux_kontext_",
    "zi": "zimage_",
}


def by_caption(piece: Piece) -> tuple[Hashable, Iterable[str]]:
    """Clips of one file that have one caption share a name."""
    stem, key = piece.file.stem, piece.row.key[:8]
    return (piece.row.source, piece.caption), (stem, f"{stem}-{piece.start:05d}", f"{stem}-{key}")


def plan(export: Export) -> Iterator[OutFile]:
    """One file per clip."""
    if not is_still(export) and PICTURES in export.taken:
        raise UsageError(
            f"{parameter('output')}: holds single pictures, and musubi-tuner keeps films apart from them",
            "export these clips into another folder",
        )
    for piece in export.pieces:
        name = name_file(piece, export.architecture, is_still(export))
        yield OutFile(name, (piece,), partial(_write, export, piece))


def is_still(export: Export) -> bool:
    """Whether all clips are single pictures: musubi-tuner names their files otherwise."""
    return all(piece.row.frames == 1 for piece in export.every)


def name_file(piece: Piece, architecture: str, still: bool) -> str:
    """The name by which musubi-tuner knows stem, span, size and architecture."""
    span = "" if still else f"{piece.start:05d}-{piece.row.frames:03d}_"
    return f"{piece.name}_{span}{piece.row.width:04d}x{piece.row.height:04d}_{architecture}.safetensors"


def _write(export: Export, piece: Piece, path: Path) -> None:
    row, still = piece.row, is_still(export)
    latents = piece.latents(export.needs.space)
    tensors = {make_key("latents", latents): latents[:, 0] if export.architecture in FLAT else latents}
    if export.architecture == "k5":
        ends = latents[:, [0, -1]]
        tensors[make_key("latents_image", ends)] = ends
    if export.architecture == "wan" and (first := piece.first_frame(export.needs.space)) is not None:
        tensors[make_key("latents_image", first)] = add_mask(first)
    metadata = {
        "architecture": FULL_NAMES[export.architecture],
        "width": str(row.width),
        "height": str(row.height),
        "format_version": "1.0.1",
        **({} if still else {"frame_count": str(row.frames)}),
    }
    write_safetensors(path, tensors, metadata)


def make_key(name: str, latents: Tensor) -> str:
    """The key of latents [C, t, h, w] in a file."""
    t, h, w = latents.shape[1:]
    return f"{name}_{t}x{h}x{w}_{str(latents.dtype).removeprefix('torch.')}"


def add_mask(first: Tensor) -> Tensor:
    """Latents [C, t, h, w] of a first frame → [4 + C, t, h, w]: a mask in front, 1 where it is known."""
    mask = first.new_zeros(FRAMES_OF_A_LATENT, *first.shape[1:])
    mask[:, 0] = 1
    return torch.cat([mask, first])


def lists(export: Export) -> Mapping[str, str]:
    """The captions, one for each stem, and the dataset that they and the latents make."""
    kind = "image" if is_still(export) else "video"
    captions = {piece.name: piece.caption for piece in export.pieces}
    suffix = ".png" if kind == "image" else ".mp4"
    rows = [{f"{kind}_path": f"{name}{suffix}", "caption": said} for name, said in captions.items()]
    return {f"{kind}s.jsonl": json_lines(rows), "dataset.toml": describe_dataset(export, kind)}


def describe_dataset(export: Export, kind: str) -> str:
    """A dataset.toml. Its paths hold where musubi-tuner is started in the folder."""
    sizes = {(piece.row.width, piece.row.height) for piece in export.pieces}
    width, height = max(sizes, key=lambda size: (size[0] * size[1], size), default=(0, 0))
    frames = sorted({piece.row.frames for piece in export.pieces})
    lines = [
        "# Start musubi-tuner in this folder, or write full paths here.",
        "[general]",
        f"resolution = [{width}, {height}]  # the largest size; each size is a bucket of its own",
        "enable_bucket = true",
        "bucket_no_upscale = true",
        "batch_size = 1",
        "",
        "[[datasets]]",
        f'{kind}_jsonl_file = "{kind}s.jsonl"',
        'cache_directory = "."',
        *([f"target_frames = {frames}"] if kind == "video" else []),
    ]
    return "\n".join(lines) + "\n"


def steps(export: Export) -> Iterable[str]:
    """The two scripts that are left."""
    prefix = SCRIPTS[export.architecture]
    train = "hv_" if export.architecture == "hv" else prefix
    return (
        "In this folder, with MUSUBI the folder src/musubi_tuner of musubi-tuner:",
        f"    python MUSUBI/{prefix}cache_text_encoder_outputs.py --dataset_config dataset.toml ...",
        f"    accelerate launch MUSUBI/{train}train_network.py --dataset_config dataset.toml ...",
        f"with the options of its guide for {FULL_NAMES[export.architecture]}. Its script for latents is not",
        "needed: without --keep_cache it would remove what it did not make.",
    )


TOOL = Tool(plan, steps, lists, naming=by_caption, captioned=True)
