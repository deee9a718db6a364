"""`vidlatent compat`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidlatent.cli import options as o
from vidlatent.cli.console import notice, print_json, say

if TYPE_CHECKING:
    from vidlatent.jobs.measure.compat import CompatReport
    from vidlatent.jobs.measure.likeness import Likeness

EPILOG = "Example: vidlatent compat --video-vae cv-vae-sd2.1 --image-vae sd-vae/ clip.mp4 --picture out.png"


def command(  # noqa: PLR0913  every flag is a parameter
    clip: Annotated[str, typer.Argument(help="The video to measure on.")],
    video_vae: Annotated[str, typer.Option("--video-vae", help="Name, folder or file of the video VAE.")],
    image_vae: Annotated[str, typer.Option("--image-vae", help="Name, folder or file of the image VAE.")],
    video_weights: Annotated[
        Path | None, typer.Option("--video-weights", help="Weights to use with a named video VAE.")
    ] = None,
    image_weights: Annotated[
        Path | None, typer.Option("--image-weights", help="Weights to use with a named image VAE.")
    ] = None,
    frames: Annotated[int, typer.Option("--frames", min=1, help="At most so many frames.")] = 17,
    start: o.StartOption = None,
    crop: o.CropOption = None,
    size: o.SizeOption = None,
    maps: Annotated[
        str, typer.Option("--maps", help="What a latent should look like: first, slice, average, random.")
    ] = "first,slice,average,random",
    seed: Annotated[int, typer.Option("--seed", help="Of the map random.")] = 0,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Write the pictures side by side, as PNG.")
    ] = None,
    device: o.DeviceOption = None,
    dtype: Annotated[str, typer.Option("--dtype", help="fp32, bf16 or fp16.")] = "fp32",
    max_memory: o.MaxMemoryOption = None,
    force: o.ForceOption = False,
    as_json: o.JsonOption = False,
) -> int:
    """Measure whether an image VAE understands the latents of a video VAE."""
    from vidlatent.files import refuse_existing
    from vidlatent.jobs.measure.compat import CompatOptions, compat, load_pair, write_picture

    if picture:
        refuse_existing(picture, force)
    read = o.reading(start, size, crop, frames=frames)
    names = tuple(name.strip() for name in maps.split(",") if name.strip())
    wishes = CompatOptions(read, names, seed, o.nbytes(max_memory))
    models = load_pair((video_vae, video_weights), (image_vae, image_weights), device, dtype)
    found = compat(*models, clip, wishes)
    if picture:
        write_picture(found, picture)
        say(f"wrote {picture}; rows: {', '.join(found.pictures)}")
    notice(found.report.notices)
    print_json(found.report.to_json()) if as_json else show(found.report)
    return 0


def show(report: "CompatReport") -> None:
    """The report as tables, on stdout."""
    from vidlatent.cli.tables import show_rows

    video, image = report.video, report.image
    print(f"{report.clip}: {report.frames} frames of {report.width}x{report.height}")
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
    """Every decoding, against what it should be."""
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
    """How like the latents of the two encoders are."""
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
    """The same by channel."""
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
