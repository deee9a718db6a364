"""`vidlatent compat`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidlatent.cli import choices as c
from vidlatent.cli import options as o
from vidlatent.cli import words
from vidlatent.cli.console import print_json, say, say_notices
from vidlatent.cli.sections import Flags
from vidlatent.printable import make_printable

if TYPE_CHECKING:
    from vidlatent.jobs.encode import Model
    from vidlatent.jobs.measure.compat import CompatOptions, CompatResult
    from vidlatent.jobs.measure.compat_report import CompatReport
    from vidlatent.jobs.measure.likeness import Likeness

EXAMPLE = "Example: vidlatent compat --video-vae cv-vae-sd2.1 --image-vae sd-vae/ clip.mp4 --picture out.png"


class ReadFlags(Flags):
    """Which part of the clip is read, and at which size."""

    heading = "What to read"
    frames: Annotated[int, typer.Option("--frames", min=1, help="At most so many frames.")] = 17
    start: o.StartOption = None
    crop: o.CropOption = None
    size: o.SizeOption = None


class MeasureFlags(Flags):
    """Which pictures the latents of the video model are compared with."""

    heading = "What is measured"
    maps: Annotated[
        str, typer.Option("--maps", help="What a latent should look like: first, slice, average, random.")
    ] = "first,slice,average,random"
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the map random.")] = 0

    def options(self, read: ReadFlags, max_memory: str | None) -> "CompatOptions":
        """Make the options of the measurement."""
        from vidlatent.jobs.encode import ReadOptions
        from vidlatent.jobs.measure.compat import CompatOptions

        wanted = ReadOptions(
            start=words.parse_seconds(read.start, "--start"),
            frames=read.frames,
            size=words.parse_integers(read.size, "--size", 2, "640x360"),
            crop=words.parse_integers(read.crop, "--crop", 4, "0,0,640,480"),
        )
        return CompatOptions(
            wanted, words.parse_names(self.maps), self.seed, words.parse_bytes(max_memory, "--max-memory")
        )


class ModelFlags(Flags):
    """Which two models are measured, and where they run."""

    heading = "Which models, and where they run"
    video_vae: Annotated[str, typer.Option("--video-vae", help="Name, folder or file of the video VAE.")]
    image_vae: Annotated[str, typer.Option("--image-vae", help="Name, folder or file of the image VAE.")]
    video_weights: Annotated[
        Path | None, typer.Option("--video-weights", help="Weights to use with a named video VAE.")
    ] = None
    image_weights: Annotated[
        Path | None, typer.Option("--image-weights", help="Weights to use with a named image VAE.")
    ] = None
    device: o.DeviceOption = None
    dtype: Annotated[str, c.dtype_option("--dtype", "What is computed in.")] = "fp32"
    max_memory: o.MaxMemoryOption = None

    def load(self) -> "tuple[Model, Model]":
        """Load the video model and the image model."""
        from vidlatent.jobs.measure.compat import load_pair

        video, image = (self.video_vae, self.video_weights), (self.image_vae, self.image_weights)
        return load_pair(video, image, self.device, self.dtype)


class WriteFlags(Flags):
    """Where the pictures go, and how the numbers are shown."""

    heading = "What is written"
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Write the pictures side by side, as PNG.")
    ] = None
    force: o.ForceOption = False
    as_json: o.JsonOption = False

    def check(self) -> None:
        """Refuse a picture that cannot be written, before any work."""
        from vidlatent.files import PNG, refuse_existing, refuse_foreign, refuse_unwritable

        if self.picture:
            refuse_existing(self.picture, self.force)
            refuse_foreign(self.picture, PNG)
            refuse_unwritable(self.picture)

    def write(self, found: "CompatResult") -> None:
        """Write the picture that was asked for, and show the report."""
        from vidlatent.jobs.measure.compat import write_picture

        if self.picture:
            write_picture(found, self.picture)
            say(f"wrote {self.picture}; rows: {', '.join(found.pictures)}")
        say_notices(found.report.notices)
        print_json(found.report.to_json()) if self.as_json else show(found.report)


def command(
    clip: Annotated[str, typer.Argument(help="The video to measure on.")],
    models: ModelFlags,
    read: ReadFlags,
    measure: MeasureFlags,
    write: WriteFlags,
) -> int:
    """Measure how well an image VAE reads the latents of a video VAE."""
    from vidlatent.jobs.encode import check_opening
    from vidlatent.jobs.measure.bench_options import check_clips
    from vidlatent.jobs.measure.compat import compat

    write.check()
    options = measure.options(read, models.max_memory)
    check_clips([Path(clip)])
    check_opening(clip, options.read)
    write.write(compat(*models.load(), clip, options))
    return 0


def show(report: "CompatReport") -> None:
    """Print the report as tables."""
    from vidlatent.cli.tables import show_rows

    video, image = report.video, report.image
    print(f"{make_printable(report.clip)}: {report.frames} frames of {report.width}x{report.height}")
    print(f"video VAE {video.name}, image VAE {image.name}\n")
    show_rows(score_rows(report))
    if report.crossings:
        print()
        show_rows(likeness_rows(report.crossings.still, report.crossings.latents))
        print()
        show_rows(channel_rows(report.crossings.latents))
    limits = report.thresholds
    print(f"\n{report.verdict.word.upper()}: {'; '.join(report.verdict.reasons)}")
    print(
        f"thresholds: frame 0 and image mode lose at most {limits['gap_db']:g} dB, correlation at least "
        f"{limits['pearson']:g}; a scale mismatch leaves at most {limits['fitted_share']:g} of the distance"
    )


def score_rows(report: "CompatReport") -> list[dict[str, str]]:
    """Make a row for every decoding: how near it comes to what it should be."""
    rows = [
        _score("video VAE alone", report.video_alone),
        _score("image VAE alone", report.image_alone),
    ]
    found = report.crossings
    if found is None:
        return rows
    crossed = {"video -> image, frame 0": found.first_frame}
    crossed |= {f"video -> image, {name}": crossing for name, crossing in found.maps.items()}
    crossed |= {
        "video -> image, best of group": found.best,
        "image -> video, image mode": found.image_mode,
        "image -> video, video mode": found.video_mode,
    }
    return rows + [_score(name, crossing.score, crossing.gap_db) for name, crossing in crossed.items()]


def _score(name: str, score, gap_db: float | None = None) -> dict[str, str]:
    return {
        "latents and decoder": name,
        "PSNR dB": f"{score.psnr:.2f}",
        "SSIM": "-" if score.ssim is None else f"{score.ssim:.4f}",
        "loses dB": "-" if gap_db is None else f"{gap_db:.2f}",
    }


def likeness_rows(still: "Likeness", latents: "Likeness") -> list[dict[str, str]]:
    """Make rows that say how alike the latents of the two encoders are."""
    return [
        {
            "latents of both encoders": name,
            "Pearson r": f"{likeness.pearson:.3f}",
            "relative L2": f"{likeness.rel_l2:.3f}",
            "after the best fit": f"{likeness.rel_l2_fitted:.3f}",
        }
        for name, likeness in (("frame 0 alone", still), ("whole clip", latents))
    ]


def channel_rows(latents: "Likeness") -> list[dict[str, str]]:
    """Make a row for every channel of the latents."""
    return [
        {
            "channel": str(i),
            "video mean": f"{channel.video_mean:.3f}",
            "video std": f"{channel.video_std:.3f}",
            "image mean": f"{channel.image_mean:.3f}",
            "image std": f"{channel.image_std:.3f}",
            "Pearson r": f"{channel.pearson:.3f}",
        }
        for i, channel in enumerate(latents.channels)
    ]
