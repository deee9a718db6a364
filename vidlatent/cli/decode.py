"""`vidlatent decode`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vidlatent.cli import options as o
from vidlatent.cli.console import bar, complain, notice, print_json, say
from vidlatent.errors import VidlatentError


def command(  # noqa: PLR0913  every flag is a parameter
    inputs: Annotated[list[Path], typer.Argument(help=".latent files.")],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="A .mp4 .mov .mkv .webm, a folder DIR/ for PNG frames (or several films), - for y4m.",
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
    audio: o.AudioOption = "keep",
    force: o.ForceOption = False,
    as_json: o.JsonOption = False,
) -> int:
    """Decode .latent files into videos with the source's own times, size, colour and sound."""
    from vidlatent.jobs.decode import DecodeOptions, ModelChoice, PlanWishes, SinkOptions

    wishes = DecodeOptions(
        start=o.seconds(start, "--from"),
        end=o.seconds(end, "--to"),
        plan=PlanWishes(latent_window, tile, overlap),
        max_memory=o.nbytes(max_memory),
        sink=SinkOptions(codec, crf, preset, pix_fmt, square_pixels),
        audio=o.keeps_audio(audio),
        force=force,
    )
    choice = ModelChoice(model, device, dtype, weights, config)
    several = len(inputs) > 1  # a folder is for several films, or for the frames of one
    pairs = o.targets([str(path) for path in inputs], output, ".mp4") if several else [(inputs[0], output)]
    return decode_all(pairs, choice, wishes, as_json)


def decode_all(pairs, choice, wishes, as_json: bool) -> int:
    """Decode each file into its target; one that fails does not stop the others."""
    from vidlatent.jobs.decode import decode_file

    results, failed = [], None
    for source, target in pairs:
        progress = bar()
        try:
            result = decode_file(Path(source), target, choice, wishes, progress)
        except VidlatentError as e:
            if len(pairs) == 1:
                raise
            complain(e)
            failed = e
            continue
        finally:
            progress.close()
        notice(result.notices)
        say(
            f"{result.target}: {result.frames} frames {result.width}x{result.height}, "
            f"{result.frames / result.seconds:.1f} frames/s"
        )
        results.append({"source": source, **asdict(result)})
    if as_json:
        print_json(results if len(pairs) > 1 else results[0])
    return 1 if failed else 0
