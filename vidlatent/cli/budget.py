"""Flags of `--store packed`: what it may cost."""

from typing import TYPE_CHECKING, Annotated

import typer

from vidlatent.cli import words
from vidlatent.cli.sections import Flags
from vidlatent.errors import UsageError

if TYPE_CHECKING:
    from vidlatent.jobs.small.budget import Budget

PACKED = "packed"


class BudgetFlags(Flags):
    """How much latents may lose when they are packed."""

    heading = "With --store packed: how small"
    max_drop: Annotated[
        str | None,
        typer.Option(
            "--max-drop",
            help="Decoded PSNR may fall by this, which is measured.  [default: 0.1dB]",
        ),
    ] = None
    min_latent_snr: Annotated[
        str | None,
        typer.Option(
            "--min-latent-snr",
            help="Of every channel, as diffusion models see latents and no pictures.  [default: 20dB]",
        ),
    ] = None
    bpp: Annotated[
        float | None, typer.Option("--bpp", help="For experts: bits per pixel, whatever that costs.")
    ] = None
    step: Annotated[
        float | None,
        typer.Option("--step", help="For experts: k of the steps k/√s, s what a channel weighs."),
    ] = None

    def budget(self, store: str | None, pack: bool) -> "Budget | None":
        """Make the budget; None where latents are not to be packed."""
        from vidlatent.jobs.small.budget import Budget

        given = [
            f"--{name.replace('_', '-')}"
            for name in ("max_drop", "min_latent_snr", "bpp", "step")
            if getattr(self, name) is not None
        ]
        if store != PACKED:
            if given:
                raise UsageError(f"{given[0]}: for --store packed", "add --store packed, or leave it out")
            return None
        if pack:
            raise UsageError("--pack: packs floats, and --store packed are none", "leave --pack out")
        floor = words.parse_decibels(self.min_latent_snr, "--min-latent-snr")
        drop = words.parse_decibels(self.max_drop, "--max-drop")
        return Budget(
            drop, bpp=self.bpp, step=self.step, **({} if floor is None else {"min_latent_snr": floor})
        )
