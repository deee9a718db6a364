"""ComfyUI: NAME.latent for its LoadLatent node.

A safetensors file with `latent_tensor` [1, C, t, h, w] in raw units. The empty tensor beside it says that
this is version 0, so that ComfyUI does not scale the latents as it does those of older files.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from vidlatent.jobs.exchange.files import write_safetensors
from vidlatent.jobs.exchange.tool import RAW, ExportOptions, Piece


def write(pieces: Sequence[Piece], target: Path, options: ExportOptions) -> Iterator[Path]:
    """One file per clip."""
    for piece in pieces:
        tensors = {
            "latent_tensor": piece.latents(RAW)[None],
            "latent_format_version_0": torch.zeros(0),
        }
        yield write_safetensors(target / f"{piece.name}.latent", tensors)
