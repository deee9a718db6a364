"""finetrainers' precomputed latents: finetrainers-precomputed-data/latent-N.pt, and clips.jsonl.

It keeps mean and logvar, raw, and draws and normalises while it trains. What lies beside `latents` differs by
model, because finetrainers passes on to the transformer whatever it finds. clips.jsonl says which clip is N,
so that condition-N.pt can be made in the same order.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from torch import Tensor

from vidlatent.jobs.exchange.files import json_lines, write_pt
from vidlatent.jobs.exchange.piece import Piece
from vidlatent.jobs.exchange.tool import Export, OutFile, Tool

FOLDER = "finetrainers-precomputed-data"


def describe_wan(piece: Piece, moments: Tensor) -> dict[str, object]:
    """Wan: `latents_std` is what latents are multiplied by, 1 / std."""
    shift, scale = piece.affine()
    return {"latents": moments[None], "latents_mean": shift, "latents_std": scale}


def describe_ltx(piece: Piece, moments: Tensor) -> dict[str, object]:
    """LTX-Video: `latents_std` is the std itself; the counts are of latents."""
    shift, scale = piece.affine()
    t, h, w = moments.shape[1:]
    sizes = {"num_frames": t, "height": h, "width": w}
    return {"latents": moments[None], **sizes, "latents_mean": shift, "latents_std": 1 / scale}


def describe_hunyuan(piece: Piece, moments: Tensor) -> dict[str, object]:
    """HunyuanVideo: nothing but the moments."""
    return {"latents": moments[None]}


def describe_cogvideox(piece: Piece, moments: Tensor) -> dict[str, object]:
    """CogVideoX: the moments, frames before channels."""
    return {"latents": moments.transpose(0, 1).contiguous()[None]}


MODELS: Mapping[str, Callable[[Piece, Tensor], dict[str, object]]] = {
    "wan": describe_wan,
    "ltx": describe_ltx,
    "hunyuan": describe_hunyuan,
    "cogvideox": describe_cogvideox,
}


def plan(export: Export) -> Iterator[OutFile]:
    """One file per clip."""
    export.refuse_without_logvar()
    describe = MODELS[export.architecture]

    def write(piece: Piece, path: object) -> None:
        write_pt(path, describe(piece, piece.moments()))  # type: ignore[arg-type]

    for piece in export.pieces:
        yield OutFile(f"{FOLDER}/latent-{piece.number}.pt", (piece,), partial(write, piece))


def lists(export: Export) -> Mapping[str, str]:
    """Which clip is which number, and its caption."""
    rows = (
        {
            "number": piece.number,
            "latent": f"latent-{piece.number}.pt",
            "condition": f"condition-{piece.number}.pt",
            "clip": piece.name,
            "source": piece.row.source,
            "caption": piece.caption,
        }
        for piece in sorted(export.pieces, key=lambda piece: piece.number)
    )
    return {"clips.jsonl": json_lines(rows)}


def steps(export: Export) -> Iterable[str]:
    """What is left to do."""
    return (
        "clips.jsonl has the captions in the order of the files. Make the text conditions in that order:",
        f"    {FOLDER}/condition-0.pt belongs to {FOLDER}/latent-0.pt, and so on.",
        "Then start finetrainers' training with",
        "    --precomputation_dir THIS_FOLDER --enable_precomputation --precomputation_reuse",
    )


TOOL = Tool(plan, steps, lists, captioned=True, always_raw=True)
