"""`vidlatent decode`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from vidlatent.cli import choices as c
from vidlatent.cli import options as o
from vidlatent.cli import words
from vidlatent.cli.batch import pair_targets, run_each
from vidlatent.cli.console import say, say_notices
from vidlatent.cli.sections import Flags, SectionedCommand

if TYPE_CHECKING:
    from vidlatent.jobs.decode import DecodeOptions, DecodeResult, PlanWishes

AS_STORED = "  [default: as the file says]"


class DecodeCommand(SectionedCommand):
    """A command that also knows the names that two of its flags had before."""

    renamed: ClassVar = {"--from": "--start", "--to": "--end"}


class ReadFlags(Flags):
    """Which part of a `.latent` is decoded."""

    heading = "What to read"
    start: Annotated[str | None, typer.Option("--start", help="First time to decode, in seconds.")] = None
    end: Annotated[str | None, typer.Option("--end", help="Time to stop before, in seconds.")] = None


class CutFlags(Flags):
    """How latents are cut in time and space, where not as the file says."""

    heading = "How to cut"
    latent_window: Annotated[
        int | None, typer.Option("--latent-window", help=f"Latent frames decoded at once; 0: all.{AS_STORED}")
    ] = None
    tile: Annotated[
        int | None, typer.Option("--tile", help=f"Side of tiles in pixels; 0: whole frames.{AS_STORED}")
    ] = None
    overlap: Annotated[
        float | None, typer.Option("--overlap", help=f"Fraction of a tile that neighbours share.{AS_STORED}")
    ] = None
    name: o.PlanOption = None
    past: Annotated[
        int | None,
        typer.Option("--past", help=f"Latents to look back, where memory grows; 0: all.{AS_STORED}"),
    ] = None

    def wishes(self) -> "PlanWishes":
        """Make the wishes that the decode job follows."""
        from vidlatent.jobs.decode import PlanWishes

        return PlanWishes(None, self.latent_window, self.tile, self.overlap, self.name, self.past)


class RunFlags(o.SharedModelFlags):
    """Which model is used, on which device, and in how much memory."""

    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Name, folder or weight file.  [default: the one that made them]"),
    ] = None
    max_memory: o.MaxMemoryOption = None


class WriteFlags(Flags):
    """What is written, where, and by which codec."""

    heading = "What is written"
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="A .mp4 .mov .mkv .webm, a folder DIR/ for images (or several films), - for y4m.",
        ),
    ]
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec", help="Video codec, e.g. libx265 or ffv1.  [default: libx264; for .webm VP9 or AV1]"
        ),
    ] = None
    crf: Annotated[
        float | None,
        typer.Option(
            "--crf",
            help="Quality of the codec; lower is better.  [default: H.264 16, HEVC 20, VP9 and AV1 24]",
        ),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", help="Speed preset of the codec.  [default: libx264 veryfast, else the codec's]"
        ),
    ] = None
    pix_fmt: Annotated[
        str | None,
        typer.Option("--pix-fmt", help="Pixel format, e.g. yuv444p.  [default: what suits codec and source]"),
    ] = None
    square_pixels: Annotated[
        bool, typer.Option("--square-pixels", help="Scale so that pixels become square.")
    ] = False
    images: Annotated[str | None, c.one_of("--format", c.IMAGES, "Images of a folder.  [default: png]")] = (
        None
    )
    audio: o.AudioOption = "keep"
    force: o.ForceOption = False
    resume: o.ResumeOption = False
    as_json: o.JsonOption = False

    def options(self, read: ReadFlags, plan: "PlanWishes", run: RunFlags) -> "DecodeOptions":
        """Make the options of the decode job."""
        from vidlatent.jobs.decode import DecodeOptions, SinkOptions

        return DecodeOptions(
            start=words.parse_seconds(read.start, "--start"),
            end=words.parse_seconds(read.end, "--end"),
            plan=plan,
            max_memory=words.parse_bytes(run.max_memory, "--max-memory"),
            workers=run.workers(),
            sink=SinkOptions(
                self.codec, self.crf, self.preset, self.pix_fmt, self.square_pixels, self.images
            ),
            audio=self.audio == "keep",
            force=self.force,
            resume=self.resume,
        )

    def pairs(self, inputs: list[Path]) -> list[tuple[str | Path, str | Path]]:
        """Give each input its target; a folder holds several films, or the frames of one."""
        if len(inputs) == 1:
            return [(inputs[0], self.output)]
        return pair_targets([str(path) for path in inputs], self.output, f".{self.images or 'mp4'}")


def command(
    inputs: Annotated[list[Path], typer.Argument(help=".latent files.")],
    read: ReadFlags,
    cut: CutFlags,
    run: RunFlags,
    write: WriteFlags,
) -> int:
    """Decode .latent files into videos.

    Times, size, colour and sound are those of the source.
    """
    from vidlatent.jobs.decode import decode_file

    options, choice = write.options(read, cut.wishes(), run), run.choice()
    return run_each(
        write.pairs(inputs),
        lambda source, target, progress: decode_file(Path(source), target, choice, options, progress),
        show,
        write.as_json,
    )


def show(result: "DecodeResult") -> None:
    """Say in a line or two what came of one file."""
    say_notices(result.notices)
    say(
        f"{result.target}: {result.frames} frames {result.width}x{result.height}, "
        f"{result.frames / result.seconds:.1f} frames/s"
    )
