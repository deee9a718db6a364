"""The LTX-2 trainer's precomputed latents: .precomputed/latents/PATH.pt, and dataset.jsonl.

A dict of `latents` [C, t, h, w], normalised, `num_frames` t, `height` h, `width` w and `fps`: its counts are
of latents, not of frames and pixels. The trainer pairs a file with the one of the same path under
conditions/, which its script for captions names after `media_path` of the dataset file.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from vidlatent.jobs.exchange.files import json_lines, write_pt
from vidlatent.jobs.exchange.needs import NORMALISED
from vidlatent.jobs.exchange.piece import Piece, in_tree
from vidlatent.jobs.exchange.tool import Export, OutFile, Tool

FOLDER = ".precomputed"
DATASET = "dataset.jsonl"
OLD = "latent_"  # so its files were called once: it pairs latent_X.pt with condition_X.pt


def by_path(piece: Piece) -> tuple[Hashable, Iterable[str]]:
    """As in_tree, but no name begins as those of old files did: such a file would pair with nothing."""
    subject, names = in_tree(piece)
    return subject, map(rename_old, names)


def rename_old(name: str) -> str:
    """The name, or clip-NAME where the trainer would take it for that of an old file."""
    path = PurePosixPath(name)
    return str(path.with_name(f"clip-{path.name}")) if path.name.startswith(OLD) else name


def plan(export: Export) -> Iterator[OutFile]:
    """One file per clip."""
    for piece in export.pieces:
        yield OutFile(f"{FOLDER}/latents/{piece.name}.pt", (piece,), partial(write_latents, piece))


def write_latents(piece: Piece, path: Path, packed: bool = False) -> None:
    """Write the latents of a clip; `packed` as [t·h·w, C], the positions in the order of their memory."""
    latents = piece.latents(NORMALISED)
    t, h, w = latents.shape[1:]
    if packed:
        latents = latents.flatten(1).transpose(0, 1).contiguous()  # C t h w → t·h·w C
    write_pt(path, {"latents": latents, "num_frames": t, "height": h, "width": w, "fps": piece.fps()})


def lists(export: Export) -> Mapping[str, str]:
    """The captions, by the paths that pair them with the latents. The trainer does not open these paths."""
    rows = ({"caption": p.caption, "media_path": f"{p.name}{p.file.suffix or '.mp4'}"} for p in export.pieces)
    return {DATASET: json_lines(rows)}


def steps(export: Export) -> Iterable[str]:
    """What is left to do with its scripts."""
    return (
        "In this folder, with the scripts of LTX-2's packages/ltx-trainer:",
        f"    python scripts/process_captions.py {DATASET} --output-dir {FOLDER}/conditions \\",
        "        --model-path LTX2.safetensors --text-encoder-path GEMMA",
        "Then name this folder as `data.preprocessed_data_root` in the trainer's config, and train:",
        "    python scripts/train.py CONFIG.yaml",
        "Clips of several shapes need a batch size of 1, or an export with --split-by-shape.",
    )


TOOL = Tool(plan, steps, lists, naming=by_path, one_shape=True, captioned=True)
