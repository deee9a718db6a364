"""Flags that several commands have: single ones, and groups that make values of the user's words."""

from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidlatent.cli import choices as c
from vidlatent.cli import words
from vidlatent.cli.sections import Flags
from vidlatent.errors import UsageError

if TYPE_CHECKING:
    from vidlatent.jobs.encode import Model, ReadOptions
    from vidlatent.jobs.models import ModelChoice, PlanWishes, Verb
    from vidlatent.jobs.segments import Workers

PackOption = Annotated[
    bool, typer.Option("--pack", help="Store floats smaller, and lose nothing: bf16 in two thirds.")
]
MOST_PROCESSES = 1024  # or threads
ForceOption = Annotated[bool, typer.Option("--force", help="Replace the output where it exists.")]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on where a killed run of the same command stopped; then Ctrl-C keeps what there is.",
    ),
]
ShardSizeOption = Annotated[str, typer.Option("--shard-size", help="Bytes of a shard, about.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

WeightsOption = Annotated[
    Path | None, typer.Option("--weights", help="Weight file or folder to use with the model.")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="config.json of a bare weight file.")]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="cuda, cuda:1, mps or cpu.  [default: the best there is]")
]
DtypeOption = Annotated[
    str | None, c.dtype_option("--dtype", "What is computed in.  [default: bf16 on CUDA, else fp32]")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="NAME=VALUE of an option of the model (see models show); repeatable."),
]
MaxMemoryOption = Annotated[
    str | None,
    typer.Option("--max-memory", help="Keep within this much memory, e.g. 4G: picks chunks and tiles."),
]

ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=MOST_PROCESSES, help="Of the model on a CPU.  [default: all cores]"),
]

WindowOption = Annotated[
    int | None, typer.Option("--window", help="Frames encoded at once; 0: all.  [default: the model's]")
]
LatentWindowOption = Annotated[
    int | None,
    typer.Option("--latent-window", help="Latent frames decoded at once; 0: all.  [default: the model's]"),
]
PlanOption = Annotated[
    str | None, typer.Option("--plan", help="One of the model's plans by its name; see models show.")
]
PastOption = Annotated[
    int | None,
    typer.Option("--past", help="Latents to look back, where memory grows; 0: all.  [default: the model's]"),
]
TileOption = Annotated[
    int | None,
    typer.Option("--tile", help="Side of spatial tiles in pixels; 0: whole frames.  [default: the model's]"),
]
OverlapOption = Annotated[
    float | None,
    typer.Option("--overlap", help="Fraction of a tile that neighbours share.  [default: the model's]"),
]

StartOption = Annotated[str | None, typer.Option("--start", help="First time to encode, in seconds.")]
FramesOption = Annotated[int | None, typer.Option("--frames", min=1, help="At most so many frames.")]
SizeOption = Annotated[str | None, typer.Option("--size", help="Resize to WxH pixels.")]
CropOption = Annotated[str | None, typer.Option("--crop", help="Cut out LEFT,TOP,WIDTH,HEIGHT first.")]
StreamOption = Annotated[int, typer.Option("--stream", min=0, help="Which video track, from 0.")]

AudioOption = Annotated[str, c.one_of("--audio", c.KEEP_OR_DROP, "What becomes of the sound.")]


class ReadFlags(Flags):
    """Which frames of a video are read, and what is done to them before they are encoded."""

    heading = "What to read"
    start: StartOption = None
    end: Annotated[str | None, typer.Option("--end", help="Time to stop before, in seconds.")] = None
    frames: FramesOption = None
    fps: Annotated[str | None, typer.Option("--fps", help="Resample in time, frames per second.")] = None
    size: SizeOption = None
    crop: CropOption = None
    stream: StreamOption = 0
    assume_matrix: Annotated[
        str | None, c.one_of("--assume-matrix", c.MATRICES, "Of an untagged video.", {"bt2020": "bt2020nc"})
    ] = None
    hwaccel: Annotated[str | None, typer.Option("--hwaccel", help="Decode with e.g. cuda.")] = None
    fit: Annotated[str, c.one_of("--fit", c.FITS, "With --size: what is done where the aspect differs.")] = (
        "stretch"
    )
    deinterlace: Annotated[bool, typer.Option("--deinterlace", help="Make full frames of fields.")] = False
    tonemap: Annotated[bool, typer.Option("--tonemap", help="Map HDR (PQ, HLG) to SDR.")] = False
    allow_truncated: Annotated[
        bool, typer.Option("--allow-truncated", help="Keep what decodes of a broken video.")
    ] = False

    def most_frames(self) -> int | None:
        """Say how many frames a clip has at most."""
        return self.frames

    def options(self, **more: Any) -> "ReadOptions":
        """Make the options of the reader; `more` are those that only one command has flags for."""
        from vidlatent.jobs.encode import ReadOptions, check_reading

        if self.fit != "stretch" and self.size is None:
            raise UsageError(f"--fit {self.fit} means nothing without a size", "add --size WxH")
        options = ReadOptions(
            start=words.parse_seconds(self.start, "--start"),
            end=words.parse_seconds(self.end, "--end"),
            frames=self.most_frames(),
            fps=words.parse_rate(self.fps, "--fps"),
            size=words.parse_integers(self.size, "--size", 2, "640x360"),
            crop=words.parse_integers(self.crop, "--crop", 4, "0,0,640,480"),
            fit=self.fit,
            stream=self.stream,
            assume_matrix=self.assume_matrix,
            hwaccel=self.hwaccel,
            deinterlace=self.deinterlace,
            tonemap=self.tonemap,
            allow_truncated=self.allow_truncated,
            **more,
        )
        check_reading(options)
        return options


class ModelFlags(Flags):
    """Which model is used, and on which device."""

    heading = "Which model, and where it runs"
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Name, folder or weight file of the model.  [default: pocket, bundled]"
        ),
    ] = None
    weights: WeightsOption = None
    config: ConfigOption = None
    settings: SetOption = None
    device: DeviceOption = None
    dtype: DtypeOption = None

    def choice(self) -> "ModelChoice":
        """Make the choice for a job that loads the model itself."""
        from vidlatent.jobs.models import ModelChoice

        settings = words.parse_settings(self.settings, "--set")
        return ModelChoice(self.model, self.device, self.dtype, self.weights, self.config, settings)

    def load(self, only: "Verb | None" = None) -> "Model":
        """Load the model, `only` to encode or to decode if so told; where none was named, the bundled one."""
        return self.choice().load(only=only)


class SharedModelFlags(ModelFlags):
    """Which model is used, and which processes share a long clip."""

    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            help="cuda, cuda:1, mps or cpu; cuda:0,cuda:1 share a clip.  [default: the best there is]",
        ),
    ] = None
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            min=1,
            max=MOST_PROCESSES,
            help="Processes that share a clip, to the same bits. On a CPU one uses all cores already: it is "
            "for several GPUs.  [default: one for each device]",
        ),
    ] = None

    @property
    def devices(self) -> tuple[str | None, ...]:
        """The device of each process."""
        named = words.parse_names(self.device) or (None,)
        return tuple(islice(cycle(named), self.jobs or len(named)))

    def choice(self) -> "ModelChoice":
        """Make the choice; where several devices share the work, on the first of them."""
        return replace(super().choice(), device=self.devices[0])

    def workers(self) -> "Workers | None":
        """Make the processes that share a clip; None where one does it all."""
        from vidlatent.jobs.segments import Workers

        return Workers(self.choice(), self.devices) if len(self.devices) > 1 else None


class CutFlags(Flags):
    """How a clip is cut in time and space; decode finds the latent window in the file."""

    heading = "How to cut"
    window: WindowOption = None
    latent_window: LatentWindowOption = None
    tile: TileOption = None
    overlap: OverlapOption = None
    name: PlanOption = None
    past: PastOption = None

    def wishes(self) -> "PlanWishes":
        """Make the wishes that the plan of any model follows."""
        from vidlatent.jobs.models import PlanWishes

        return PlanWishes(self.window, self.latent_window, self.tile, self.overlap, self.name, self.past)


class PosteriorFlags(Flags):
    """What is kept of the distribution that the encoder gives; commands add what else they write."""

    heading = "What is written"
    posterior: Annotated[
        str | None,
        c.one_of("--posterior", c.POSTERIORS, "full: mean and logvar.  [default: mode]"),
    ] = None
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the noise, with --posterior sample.")] = 0
    store: Annotated[
        str | None,
        c.one_of(
            "--store",
            c.FILE_STORES,
            "On disk; int8: half of bf16, for training; packed: about a fifth, for keeping. That makes files "
            "small, but is no video codec.  [default: as computed]",
            c.DTYPE_ALIASES,
        ),
    ] = None
    pack: PackOption = False
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Decode up to 68 frames of a clip, and keep how near they come to the source: see repack.",
        ),
    ] = False

    def posterior_options(self) -> dict[str, Any]:
        """Make those options of an encoding job that say what is kept."""
        return {
            "posterior": self.posterior or "mode",
            "seed": self.seed,
            "store": self.store,
            "pack": self.pack,
        }
