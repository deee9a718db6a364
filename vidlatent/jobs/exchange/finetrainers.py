"""finetrainers' precomputed latents: latent-0-N.pt.

A dict of `latents` [1, 2C, t, h, w], `latents_mean` and `latents_std`, all raw. It keeps mean and logvar, and
draws and normalises while it trains.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from vidlatent.jobs.exchange.files import write_pt
from vidlatent.jobs.exchange.tool import ExportOptions, Piece


def write(pieces: Sequence[Piece], target: Path, options: ExportOptions) -> Iterator[Path]:
    """One file per clip."""
    for number, piece in enumerate(pieces):
        shift, scale = piece.affine()
        item = {"latents": piece.moments()[None], "latents_mean": shift, "latents_std": scale}
        yield write_pt(target / f"latent-0-{number}.pt", item)
