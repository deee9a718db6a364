"""`vidlatent import`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vidlatent.cli import choices as c
from vidlatent.cli import options as o
from vidlatent.cli import words
from vidlatent.cli.console import print_json, say
from vidlatent.cli.sections import Flags

EXAMPLE = "Example: vidlatent import latents.pt -o film.latent --model wan-2.1 --fps 16 --space normalised"


class HoldFlags(Flags):
    """What the files hold, where they do not say it themselves."""

    heading = "What the files hold"
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Name or folder of the model whose latents they are."),
    ] = None
    weights: o.WeightsOption = None
    config: o.ConfigOption = None
    fps: Annotated[str | None, typer.Option("--fps", help="Frames per second of the film.")] = None
    space: Annotated[
        str | None,
        c.one_of("--space", c.SPACES, "normalised: (z - shift) * scale.  [default: the layout's, or raw]"),
    ] = None
    axes: Annotated[
        str | None,
        typer.Option("--axes", help="Their order, e.g. CTHW or BTCHW.  [default: by the number of channels]"),
    ] = None


class WriteFlags(Flags):
    """Where the files go."""

    heading = "What is written"
    output: Annotated[Path, typer.Option("--output", "-o", help="The .latent file, or a folder.")]
    force: o.ForceOption = False
    as_json: o.JsonOption = False


def command(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="ComfyUI .latent, musubi-tuner, ai-toolkit, LTX and finetrainers files, FastVideo parquet, "
            "tensors in .safetensors, .pt or .npy, our shards."
        ),
    ],
    hold: HoldFlags,
    write: WriteFlags,
) -> int:
    """Make .latent files of latents that other programs made."""
    from vidlatent.jobs.exchange.importing import ImportOptions, import_files
    from vidlatent.jobs.models import ModelChoice

    choice = ModelChoice(hold.model, "cpu", None, hold.weights, hold.config)
    fps = words.parse_rate(hold.fps, "--fps")
    options = ImportOptions(choice, fps, hold.space, hold.axes, write.force)
    everything: list[dict] = []
    for made in import_files(inputs, write.output, options):
        if not write.as_json:
            print(made.target)
        everything.append(asdict(made))
        t, c, h, w = made.shape
        made_up = "" if made.timed else ", as no video tells their times"
        say(
            f"{made.target}: latents {t}x{c}x{h}x{w} of {made.model}, read as {made.space}; "
            f"{made.frames} frames at {float(made.fps):g} per second{made_up}"
        )
    if write.as_json:
        print_json(everything)
    return 0
