"""`vidlatent bench`."""

from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidlatent.cli import choices as c
from vidlatent.cli import measuring as m
from vidlatent.cli import options as o
from vidlatent.cli import words
from vidlatent.cli.console import start_progress
from vidlatent.cli.sections import Flags
from vidlatent.errors import UsageError

if TYPE_CHECKING:
    from vidlatent.jobs.measure.bench_options import BenchOptions
    from vidlatent.jobs.measure.roundtrip import Subject

EXAMPLE = "Example: vidlatent bench clip.mp4 --codec x264,svtav1 --report bench.html"
PICTURES = 4  # rows whose worst frames an HTML report shows


class ReadFlags(Flags):
    """How much of each clip is read, and at which size."""

    heading = "What to read"
    frames: Annotated[int | None, typer.Option("--frames", min=1, help="At most so many of each clip.")] = (
        None
    )
    size: Annotated[str | None, typer.Option("--size", help="Resize clips to WxH pixels first.")] = None


class MeasureFlags(m.MetricFlags):
    """Which metrics are measured, with which codecs beside the models, and how often."""

    metrics: m.MetricsOption = "psnr,ssim,lpips"
    codec: Annotated[str, typer.Option("--codec", help="Also x264, x265, svtav1 or ffv1 (lossless).")] = ""
    rates: Annotated[
        str,
        typer.Option(
            "--rates",
            help="Bits per pixel codecs aim at; equal: those of the models' latents; ladder: five powers of "
            "two below those.",
        ),
    ] = "equal,ladder"
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="Codec that BD-rates refer to.  [default: the first]")
    ] = None
    protocol: Annotated[str | None, c.one_of("--protocol", c.PROTOCOLS, "Measure as this paper did.")] = None
    runs: Annotated[int, typer.Option("--runs", min=1, max=1000, help="Timed passes; medians are shown.")] = 3
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of sampled latents, where a protocol samples.")
    ] = 0

    def options(self, read: ReadFlags, write: "WriteFlags", max_memory: str | None) -> "BenchOptions":
        """Make the options of the bench."""
        from vidlatent.jobs.measure.bench_options import BenchOptions
        from vidlatent.jobs.measure.protocols import find_protocol

        return BenchOptions(
            **self.metric_options(),
            frames=read.frames,
            size=words.parse_integers(read.size, "--size", 2, "256x256"),
            protocol=find_protocol(self.protocol),
            codecs=words.parse_names(self.codec),
            rates=words.parse_bits_per_pixel(self.rates, "--rates"),
            baseline=self.baseline,
            runs=self.runs,
            seed=self.seed,
            pictures=write.pictures,
            play_s=write.play if write.pictures else 0.0,
            max_memory=words.parse_bytes(max_memory, "--max-memory"),
        )


class ModelFlags(Flags):
    """Which models are measured, and where they run."""

    heading = "Which models, and where they run"
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Name, folder or weight file; again for more.  [default: pocket]"),
    ] = None
    weights: o.WeightsOption = None
    config: o.ConfigOption = None
    latent_dtype: Annotated[
        str | None,
        typer.Option(
            "--latent-dtype",
            help="fp32,bf16,fp16,int8,packed:0.1dB: keep latents so; each is a row, at the bits it takes as "
            "stored. At equal bits codecs are better: latents are no video codec.  [default: as computed]",
        ),
    ] = None
    settings: o.SetOption = None
    device: o.DeviceOption = None
    dtype: o.DtypeOption = None
    max_memory: Annotated[
        str | None,
        typer.Option(
            "--max-memory", help="Keep each model within this much, e.g. 4G: picks chunks and tiles."
        ),
    ] = None

    def load(self, cut: o.CutFlags) -> "list[Subject]":
        """Load every model, once for each dtype in which its latents are kept."""
        from vidlatent.jobs.measure.bench_options import Loading, load_subjects

        settings = words.parse_settings(self.settings, "--set")
        if len(self.model or []) > 1 and (self.weights or self.config):
            raise UsageError(
                "--weights and --config are of one model, and several are named",
                "name weight files or folders: -m FILE -m FOLDER",
            )
        how = Loading(self.device, self.dtype, cut.wishes(), settings, self.weights, self.config)
        return load_subjects(self.model or [], self.stores(), how)

    def stores(self) -> list[str]:
        """Say in which forms latents are kept; those with a number in their name are looked at later."""
        return [
            name
            if name.lower().startswith("packed")
            else c.choose("--latent-dtype", (*c.STORES, "packed:0.1dB"), c.DTYPE_ALIASES, name)
            for name in words.parse_names(self.latent_dtype)
        ]


class WriteFlags(m.ReportFlags):
    """Where the numbers go, and where finished rows are kept."""

    @property
    def pictures(self) -> int:
        """How many rows keep frames to be shown: those of a journal may be put into an HTML report later."""
        return PICTURES if self.resume or any(path.suffix == ".html" for path in self.report or []) else 0

    def journal_for(self, metrics: tuple[str, ...]) -> AbstractContextManager[Path | None]:
        """Give the journal while the block runs; with fvd none, as that looks at all clips together."""
        return self.journal(wanted="fvd" not in metrics)


def command(
    clips: Annotated[list[str], typer.Argument(help="Videos, or folders of them.")],
    read: ReadFlags,
    measure: MeasureFlags,
    models: ModelFlags,
    cut: o.CutFlags,
    write: WriteFlags,
) -> int:
    """Measure models and codecs: quality, speed, memory, size."""
    from vidlatent.jobs.measure.bench import bench
    from vidlatent.jobs.measure.bench_options import check_clips, list_clips

    write.check()
    options, paths = measure.options(read, write, models.max_memory), list_clips(clips)
    check_clips(paths)
    subjects = models.load(cut)
    with write.journal_for(options.metrics) as journal:
        with closing(start_progress()) as progress:
            report = bench(paths, subjects, options, journal, progress)
        return write.write(report)
