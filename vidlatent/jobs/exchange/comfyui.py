"""ComfyUI: NAME.latent for its LoadLatent node.

A safetensors file with `latent_tensor`. The empty tensor beside it says that this is version 0, so that
ComfyUI does not scale the latents as it does those of older files. Latents of a video VAE are
[1, C, t, h, w]; an image VAE decodes frames as a batch, [t, C, h, w]. They are in the units in which its VAE
node gives them: raw, but for LTX and MiniMax-H3, which give them normalised. Its Cosmos normalises by numbers
that lie in its own weight file and are not known here.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from vidlatent.errors import UsageError, parameter
from vidlatent.jobs.exchange.files import write_safetensors
from vidlatent.jobs.exchange.needs import NORMALISED, RAW
from vidlatent.jobs.exchange.piece import Piece
from vidlatent.jobs.exchange.tool import Export, OutFile, Tool
from vidlatent.jobs.exchange.vaes import Vae

COSMOS = ("cosmos-cv8x8x8",)


def choose_space(vae: Vae) -> str:
    """The units in which ComfyUI's VAE node gives latents of a VAE, and takes them."""
    return NORMALISED if vae.is_ltx or vae.is_one_of(("minimax-h3",)) else RAW


def refuse_cosmos(vae: Vae, space: str | None, where: str) -> None:
    """Raise UsageError for latents of Cosmos whose units nobody has told."""
    if space is None and vae.is_one_of(COSMOS):
        raise UsageError(
            f"{where}: ComfyUI keeps latents of {vae.name} normalised by numbers of its own weight file",
            f"{parameter('space')} raw takes them as they are, and nothing is converted",
        )


def plan(export: Export) -> Iterator[OutFile]:
    """One file per clip."""
    refuse_cosmos(export.vae, export.options.space, export.word)

    def tensors(piece: Piece) -> dict[str, Tensor]:
        latents = piece.latents(choose_space(export.vae))
        return {
            "latent_tensor": latents.transpose(0, 1) if export.vae.still else latents[None],
            "latent_format_version_0": torch.zeros(0),
        }

    for piece in export.pieces:
        yield OutFile(
            f"{piece.name}.latent", (piece,), lambda path, p=piece: write_safetensors(path, tensors(p))
        )


def steps(export: Export) -> Iterable[str]:
    """How to load one."""
    return (
        "Copy the files into the folder `input` of ComfyUI, and load one by the node LoadLatent.",
        f"Decode it with the VAE of {export.vae.name}. LoadLatent does not check whose latents they are.",
    )


TOOL = Tool(plan, steps)
