"""`vidlatent bench`."""

from pathlib import Path
from typing import Annotated

import typer

from vidlatent.cli import measuring as m
from vidlatent.cli import options as o
from vidlatent.cli.console import bar
from vidlatent.errors import UsageError
from vidlatent.jobs.measure.metric_help import METRIC_HELP

EPILOG = f"{METRIC_HELP}\n\nExample: vidlatent bench clip.mp4 --codec x264,svtav1 --report bench.html"
PICTURES = 4  # rows whose worst frames an HTML report shows


def command(  # noqa: PLR0913  every flag is a parameter
    clips: Annotated[list[str], typer.Argument(help="Videos, or folders of them.")],
    metrics: m.MetricsOption = "psnr,ssim,lpips",
    metric_file: m.FileOption = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Name, folder or weight file; again for more.  [default: pocket]"),
    ] = None,
    latent_dtype: Annotated[
        str | None,
        typer.Option("--latent-dtype", help="fp32,bf16,fp16: keep latents so; each is a row.  [as computed]"),
    ] = None,
    codec: Annotated[str, typer.Option("--codec", help="Also x264, x265, svtav1 or ffv1 (lossless).")] = "",
    rates: Annotated[
        str,
        typer.Option("--rates", help="Bits per pixel codecs aim at; equal: those of the models' latents."),
    ] = "0.05,0.1,0.2,0.4,equal",
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="Codec that BD-rates refer to.  [default: the first]")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="od-vae-paper or cv-vae-paper: measure as they did.")
    ] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Timed passes; medians are shown.")] = 3,
    frames: Annotated[
        int | None, typer.Option("--frames", min=1, help="At most so many of each clip.")
    ] = None,
    size: Annotated[str | None, typer.Option("--size", help="Resize clips to WxH pixels first.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of sampled latents, where a protocol samples.")] = 0,
    device: o.DeviceOption = None,
    dtype: o.DtypeOption = None,
    window: Annotated[
        int | None, typer.Option("--window", help="Frames encoded at once; 0: all.  [default: the model's]")
    ] = None,
    latent_window: o.LatentWindowOption = None,
    tile: o.TileOption = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="Journal (.jsonl) of finished rows: skip those in it.")
    ] = None,
    report: m.ReportOption = None,
    force: o.ForceOption = False,
    as_json: o.JsonOption = False,
) -> int:
    """Measure models, and codecs beside them: quality, speed, memory, size."""
    from vidlatent.jobs.measure.bench import bench
    from vidlatent.jobs.measure.bench_options import BenchOptions, Loading, expand, load_subjects
    from vidlatent.jobs.measure.protocols import protocol_named
    from vidlatent.jobs.report.files import check_targets

    check_targets(report or [], force)
    wishes = BenchOptions(
        metrics=m.words(metrics),
        files=m.metric_files(metric_file),
        frames=frames,
        size=o.integers(size, "--size", 2, "256x256"),
        protocol=protocol_named(protocol),
        codecs=m.words(codec),
        rates=bits_per_pixel(rates),
        baseline=baseline,
        runs=runs,
        seed=seed,
        pictures=PICTURES if resume or any(path.suffix == ".html" for path in report or []) else 0,
    )
    how = Loading(device, dtype, window, latent_window, tile)
    subjects = load_subjects(model or ["pocket"], m.words(latent_dtype or ""), how)
    progress = bar()
    try:
        found = bench(expand(clips), subjects, wishes, resume, progress)
    finally:
        progress.close()
    return m.conclude(found, report or [], force, as_json)


def bits_per_pixel(text: str) -> tuple[float | str, ...]:
    """Rates from "0.1,0.2,equal"."""
    rates: list[float | str] = []
    for word in m.words(text):
        try:
            rates.append(word if word == "equal" else float(word))
        except ValueError:
            raise UsageError(
                f"--rates {word}: not a rate", "give bits per pixel, e.g. 0.1,0.2,equal"
            ) from None
    if any(isinstance(rate, float) and not 0 < rate < 1000 for rate in rates):
        raise UsageError(f"--rates {text}: bits per pixel must be positive", "e.g. 0.1,0.2,equal")
    return tuple(rates)
