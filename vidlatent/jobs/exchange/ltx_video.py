"""The LTX-Video trainer's precomputed latents, for LTX-Video 0.9: as those of LTX-2, but packed.

`latents` are [t·h·w, C]: what the transformer is fed. It would load [C, t, h, w] too, and misread it.
"""

from collections.abc import Iterable, Iterator
from functools import partial

from vidlatent.jobs.exchange.ltx2 import DATASET, FOLDER, by_path, lists, write_latents
from vidlatent.jobs.exchange.tool import Export, OutFile, Tool


def plan(export: Export) -> Iterator[OutFile]:
    """One file per clip."""
    for piece in export.pieces:
        write = partial(write_latents, piece, packed=True)
        yield OutFile(f"{FOLDER}/latents/{piece.name}.pt", (piece,), write)


def steps(export: Export) -> Iterable[str]:
    """What is left to do with its scripts."""
    return (
        "In this folder, with the scripts of LTX-Video-Trainer:",
        f"    python scripts/process_captions.py {DATASET} --output-dir {FOLDER}/conditions",
        "Then name this folder as `data.preprocessed_data_root` in the trainer's config, and train:",
        "    python scripts/train.py CONFIG.yaml",
        "Clips of several shapes need a batch size of 1, or an export with --split-by-shape.",
    )


TOOL = Tool(plan, steps, lists, naming=by_path, one_shape=True, captioned=True)
