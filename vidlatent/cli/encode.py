"""`vidlatent encode`."""

from typing import TYPE_CHECKING, Annotated

import typer

from vidlatent.cli import options as o
from vidlatent.cli.batch import each
from vidlatent.cli.console import notice, say

if TYPE_CHECKING:
    from vidlatent.jobs.encode import EncodeResult


def command(  # noqa: PLR0913  every flag is a parameter
    inputs: Annotated[list[str], typer.Argument(help="Videos, images, folders of frames, or - for stdin.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The .latent file, or DIR/ for several.")],
    model: o.ModelOption = None,
    weights: o.WeightsOption = None,
    config: o.ConfigOption = None,
    device: o.DeviceOption = None,
    dtype: o.DtypeOption = None,
    posterior: o.PosteriorOption = "mode",
    seed: o.SeedOption = 0,
    store: o.StoreOption = None,
    window: o.WindowOption = None,
    latent_window: o.LatentWindowOption = None,
    tile: o.TileOption = None,
    overlap: o.OverlapOption = None,
    max_memory: o.MaxMemoryOption = None,
    start: o.StartOption = None,
    end: o.EndOption = None,
    frames: o.FramesOption = None,
    fps: o.FpsOption = None,
    size: o.SizeOption = None,
    crop: o.CropOption = None,
    fit: o.FitOption = "stretch",
    stream: o.StreamOption = 0,
    assume_matrix: Annotated[
        str | None, typer.Option("--assume-matrix", help="Colour matrix of an untagged video, e.g. bt709.")
    ] = None,
    deinterlace: o.DeinterlaceOption = False,
    tonemap: o.TonemapOption = False,
    hwaccel: Annotated[str | None, typer.Option("--hwaccel", help="Decode with e.g. cuda.")] = None,
    raw: o.RawOption = None,
    allow_truncated: o.AllowTruncatedOption = False,
    isolate: Annotated[
        bool | None,
        typer.Option(
            "--isolate/--no-isolate",
            help="Decode in a process of its own, which may crash.  [default: with several inputs]",
        ),
    ] = None,
    stall_timeout: Annotated[
        float,
        typer.Option(
            "--stall-timeout",
            min=0,
            help="Isolated, give up a clip that hangs for so many seconds; 0: never.",
        ),
    ] = 300,
    audio: o.AudioOption = "keep",
    force: o.ForceOption = False,
    as_json: o.JsonOption = False,
) -> int:
    """Encode videos into .latent files."""
    from vidlatent.jobs.encode import EncodeOptions, encode, load_model, open_video
    from vidlatent.jobs.reading.isolated import IsolatedReader

    read = o.reading(
        start,
        size,
        crop,
        end,
        fps,
        frames=frames,
        fit=fit,
        stream=stream,
        assume_matrix=assume_matrix,
        deinterlace=deinterlace,
        tonemap=tonemap,
        hwaccel=hwaccel,
        raw=o.raw_frames(raw),
        allow_truncated=allow_truncated,
    )
    pairs = o.targets(inputs, output, ".latent")
    ready = load_model(model or "pocket", device, dtype, weights, config)
    wishes = EncodeOptions(
        read=read,
        plan=ready.plan(window, latent_window, tile, overlap),
        posterior=posterior,
        seed=seed,
        store=store,
        audio=o.keeps_audio(audio),
        max_memory=o.nbytes(max_memory),
        force=force,
    )
    isolated = len(pairs) > 1 if isolate is None else isolate
    with IsolatedReader(stall_timeout) as reader:
        opening = reader.open if isolated else open_video
        return each(
            pairs,
            lambda source, target, progress: encode(source, target, ready, wishes, progress, opening),
            lambda result: show(result, ready),
            as_json,
        )


def show(result: "EncodeResult", model) -> None:
    """What came of one clip, in two or three lines."""
    notice(result.notices)
    t, c, h, w = result.shape
    say(
        f"{result.target}: {result.frames} frames → latents {t}x{c}x{h}x{w} ({model.spec.name}, "
        f"{model.runtime.dtype_name} on {model.runtime.device.type}), {result.bytes / 1e6:.2f} MB, "
        f"{result.frames / result.seconds:.1f} frames/s"
    )
