"""The LTX-2 trainer's precomputed latents: NAME.pt.

A dict of `latents` [C, t, h, w], normalised, `num_frames` t, `height` h, `width` w and `fps`: its counts are
of latents, not of frames and pixels.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from vidlatent.jobs.exchange.files import write_pt
from vidlatent.jobs.exchange.tool import NORMALISED, ExportOptions, Piece


def write(pieces: Sequence[Piece], target: Path, options: ExportOptions) -> Iterator[Path]:
    """One file per clip."""
    for piece in pieces:
        latents = piece.latents(NORMALISED)
        t, h, w = latents.shape[1:]
        facts = {"num_frames": t, "height": h, "width": w, "fps": piece.fps()}
        yield write_pt(target / f"{piece.name}.pt", {"latents": latents, **facts})
