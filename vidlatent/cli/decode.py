"""`vidlatent decode`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidlatent.cli import options as o
from vidlatent.cli.batch import each
from vidlatent.cli.console import notice, say

if TYPE_CHECKING:
    from vidlatent.jobs.decode import DecodeResult


def command(  # noqa: PLR0913  every flag is a parameter
    inputs: Annotated[list[Path], typer.Argument(help=".latent files.")],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="A .mp4 .mov .mkv .webm, a folder DIR/ for images (or several films), - for y4m.",
        ),
    ],
    model: o.ModelOption = None,
    weights: o.WeightsOption = None,
    config: o.ConfigOption = None,
    device: o.DeviceOption = None,
    dtype: o.DtypeOption = None,
    latent_window: o.LatentWindowOption = None,
    tile: o.TileOption = None,
    overlap: o.OverlapOption = None,
    max_memory: o.MaxMemoryOption = None,
    start: Annotated[str | None, typer.Option("--from", help="First time to decode, in seconds.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Time to stop before, in seconds.")] = None,
    codec: Annotated[str | None, typer.Option("--codec", help="Video codec, e.g. libx265 or ffv1.")] = None,
    crf: Annotated[float | None, typer.Option("--crf", help="Quality of the codec; lower is better.")] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="Speed preset of the codec.")] = None,
    pix_fmt: Annotated[str | None, typer.Option("--pix-fmt", help="Pixel format, e.g. yuv444p.")] = None,
    square_pixels: Annotated[
        bool, typer.Option("--square-pixels", help="Scale so that pixels become square.")
    ] = False,
    images: Annotated[
        str | None, typer.Option("--format", help="Images of a folder: png or tiff.  [default: png]")
    ] = None,
    audio: o.AudioOption = "keep",
    force: o.ForceOption = False,
    as_json: o.JsonOption = False,
) -> int:
    """Decode .latent files into videos with the source's own times, size, colour and sound."""
    from vidlatent.jobs.decode import DecodeOptions, ModelChoice, PlanWishes, SinkOptions, decode_file

    wishes = DecodeOptions(
        start=o.seconds(start, "--from"),
        end=o.seconds(end, "--to"),
        plan=PlanWishes(latent_window, tile, overlap),
        max_memory=o.nbytes(max_memory),
        sink=SinkOptions(codec, crf, preset, pix_fmt, square_pixels, images),
        audio=o.keeps_audio(audio),
        force=force,
    )
    choice = ModelChoice(model, device, dtype, weights, config)
    suffix = f".{images}" if images else ".mp4"
    several = len(inputs) > 1  # a folder is for several films, or for the frames of one
    pairs = o.targets([str(path) for path in inputs], output, suffix) if several else [(inputs[0], output)]
    return each(
        pairs,
        lambda source, target, progress: decode_file(Path(source), target, choice, wishes, progress),
        show,
        as_json,
    )


def show(result: "DecodeResult") -> None:
    """What came of one file, in a line or two."""
    notice(result.notices)
    say(
        f"{result.target}: {result.frames} frames {result.width}x{result.height}, "
        f"{result.frames / result.seconds:.1f} frames/s"
    )
