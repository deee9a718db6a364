"""`vidlatent peek`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidlatent.cli import options as o
from vidlatent.cli.batch import run_each
from vidlatent.cli.console import counted, say, say_notices

if TYPE_CHECKING:
    from vidlatent.jobs.peek import PeekResult

EXAMPLE = "Example: vidlatent peek in.latent -o sheet.png"


class RunFlags(o.ModelFlags):
    """Which quick decoder is used, and on which device."""

    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Name of a tiny decoder.  [default: one that is here and fits]",
        ),
    ] = None


def command(
    file: Annotated[Path, typer.Argument(help="A .latent file.")],
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="A contact sheet .png; a film .mp4 .mov .mkv .webm; or DIR/."),
    ],
    run: RunFlags,
    every: Annotated[
        int | None,
        typer.Option("--every", min=1, help="One picture for so many latents.  [default: what suits OUTPUT]"),
    ] = None,
    force: o.ForceOption = False,
    as_json: o.JsonOption = False,
) -> int:
    """Show quickly what a .latent holds.

    The model that made it is not needed. A tiny decoder shows it: give its file, or a folder of such files,
    by --weights; or name the folder in the variable VIDLATENT_WEIGHTS. Latents of the bundled model need
    none: they are shown by colours that were fitted to it.
    """
    from vidlatent.jobs.peek import PeekOptions, peek

    options, choice = PeekOptions(every, force), run.choice()
    return run_each(
        [(file, output)],
        lambda source, target, progress: peek(Path(source), target, choice, options, progress),
        show,
        as_json,
    )


def show(result: "PeekResult") -> None:
    """Say in a line what was made."""
    say_notices(result.notices)
    say(
        f"{result.target}: {counted(result.pictures, 'picture')} {result.width}x{result.height}, "
        f"shown by {result.shown_by}, {result.seconds:.2f} s"
    )
