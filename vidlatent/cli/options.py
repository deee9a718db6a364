"""Options that more than one command has, and how their words become values."""

import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidlatent.errors import UsageError

if TYPE_CHECKING:
    from vidlatent.jobs.encode import RawFrames, ReadOptions

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="Name, folder or weight file of the model.  [default: pocket, bundled]"
    ),
]
WeightsOption = Annotated[
    Path | None, typer.Option("--weights", help="Weight file or folder to use with the model.")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="config.json of a bare weight file.")]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="cuda, cuda:1, mps or cpu.  [default: the best there is]")
]
DtypeOption = Annotated[
    str | None, typer.Option("--dtype", help="fp32, bf16 or fp16.  [default: bf16 on CUDA, else fp32]")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace the output where it exists.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
MaxMemoryOption = Annotated[
    str | None,
    typer.Option("--max-memory", help="Keep within this much memory, e.g. 4G: picks chunks and tiles."),
]
LatentWindowOption = Annotated[
    int | None,
    typer.Option("--latent-window", help="Latent frames decoded at once; 0: all.  [default: the model's]"),
]
TileOption = Annotated[
    int | None, typer.Option("--tile", help="Side of spatial tiles in pixels; 0: whole frames.")
]
OverlapOption = Annotated[
    float | None, typer.Option("--overlap", help="Fraction of a tile that neighbours share.")
]
WindowOption = Annotated[
    int | None, typer.Option("--window", help="Frames encoded at once; 0: all.  [default: the model's]")
]
PosteriorOption = Annotated[str, typer.Option("--posterior", help="mode, sample, or full (mean and logvar).")]
SeedOption = Annotated[int, typer.Option("--seed", help="Of the noise, with --posterior sample.")]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="fp32, bf16 or fp16 on disk.  [default: as computed]")
]
StartOption = Annotated[str | None, typer.Option("--start", help="First time to encode, in seconds.")]
EndOption = Annotated[str | None, typer.Option("--end", help="Time to stop before, in seconds.")]
FramesOption = Annotated[int | None, typer.Option("--frames", min=1, help="At most so many frames.")]
FpsOption = Annotated[str | None, typer.Option("--fps", help="Resample in time, frames per second.")]
SizeOption = Annotated[str | None, typer.Option("--size", help="Resize to WxH pixels.")]
CropOption = Annotated[str | None, typer.Option("--crop", help="Cut out LEFT,TOP,WIDTH,HEIGHT first.")]
FitOption = Annotated[
    str, typer.Option("--fit", help="With --size: stretch, crop or pad where the aspect differs.")
]
StreamOption = Annotated[int, typer.Option("--stream", min=0, help="Which video track, from 0.")]
DeinterlaceOption = Annotated[bool, typer.Option("--deinterlace", help="Make full frames of fields.")]
TonemapOption = Annotated[bool, typer.Option("--tonemap", help="Map HDR (PQ, HLG) to SDR.")]
AllowTruncatedOption = Annotated[
    bool, typer.Option("--allow-truncated", help="Keep what decodes of a broken video.")
]
AudioOption = Annotated[str, typer.Option("--audio", help="keep or drop the sound.")]


RawOption = Annotated[
    str | None,
    typer.Option("--raw", help="The input is bare frames, WxH:PIX_FMT:FPS, e.g. 320x240:yuv420p:30000/1001."),
]


def raw_frames(text: str | None) -> "RawFrames | None":
    """Bare frames from "320x240:yuv420p:30000/1001"; None stays None."""
    if text is None:
        return None
    from vidlatent.jobs.encode import RawFrames

    size, pix_fmt, fps, *more = *text.split(":"), *[""] * max(0, 2 - text.count(":"))
    missing = [name for name, said in (("size", size), ("pixel format", pix_fmt), ("rate", fps)) if not said]
    if missing or more:
        wrong = f"no {' and no '.join(missing)}" if missing else "more than size, pixel format and rate"
        raise UsageError(f"--raw {text}: {wrong}", "WxH:PIX_FMT:FPS, for instance 320x240:yuv420p:25")
    width, height = integers(size, "--raw", 2, "320x240:yuv420p:25")
    return RawFrames(width, height, pix_fmt, rate(fps, "--raw"))


def reading(
    start: str | None,
    size: str | None,
    crop: str | None,
    end: str | None = None,
    fps: str | None = None,
    **asked: object,
) -> "ReadOptions":
    """What to read of a clip: the words of the flags made numbers, and what else is `asked` as it is."""
    from vidlatent.jobs.encode import ReadOptions

    return ReadOptions(
        start=seconds(start, "--start"),
        end=seconds(end, "--end"),
        fps=rate(fps),
        size=integers(size, "--size", 2, "640x360"),
        crop=integers(crop, "--crop", 4, "0,0,640,480"),
        **asked,
    )


def seconds(text: str | None, flag: str) -> Fraction | None:
    """Seconds from "1.5", "90", "1:30" or "0:01:30.5", exactly; None stays None."""
    if text is None:
        return None
    if not re.fullmatch(r"-?(\d+:){0,2}\d+(\.\d+)?", text):
        raise UsageError(f"{flag} {text}: not a time", "give seconds (12.5) or minutes and seconds (1:12.5)")
    total = Fraction(0)
    for part in text.lstrip("-").split(":"):
        total = total * 60 + Fraction(part)
    return -total if text.startswith("-") else total


def rate(text: str | None, flag: str = "--fps") -> Fraction | None:
    """Frames per second from "25", "23.976" or "30000/1001"; None stays None."""
    if text is None:
        return None
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if value <= 0:
        raise UsageError(f"{flag} {text}: not a frame rate", "give a number or a fraction, e.g. 30000/1001")
    return value


def integers(text: str | None, flag: str, count: int, example: str) -> tuple[int, ...] | None:
    """`count` integers from "1280x720" or "0,0,640,480"; None stays None."""
    if text is None:
        return None
    parts = re.split("[x,:]", text)
    if len(parts) != count or not all(re.fullmatch(r"\d+", part) for part in parts):
        raise UsageError(f"{flag} {text}: expected {count} numbers", f"for instance {flag} {example}")
    return tuple(int(part) for part in parts)


def nbytes(text: str | None) -> int | None:
    """Bytes from "4G", "512M" or "2.5GB"; None stays None."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text, re.IGNORECASE)
    if not found or not float(found[1]):
        raise UsageError(f"--max-memory {text}: not an amount", "for instance --max-memory 4G")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


def keeps_audio(text: str) -> bool:
    """Whether `--audio` says keep."""
    if text not in ("keep", "drop"):
        raise UsageError(f"--audio {text}: unknown", "keep or drop")
    return text == "keep"


def targets(sources: list[str], output: str, suffix: str) -> list[tuple[str, Path]]:
    """Each source with its target: `output` itself, or a file in it where it is a folder."""
    folder = output.endswith("/") or Path(output).is_dir()
    if len(sources) > 1 and not folder:
        raise UsageError(f"{len(sources)} inputs, one output {output}", "give a folder: -o DIR/")
    if not folder:
        return [(sources[0], Path(output))]
    Path(output).mkdir(parents=True, exist_ok=True)
    pairs = [(source, Path(output) / f"{Path(source).stem or 'stdin'}{suffix}") for source in sources]
    taken: dict[Path, str] = {}
    for source, target in pairs:
        if target in taken:
            raise UsageError(f"{taken[target]} and {source} would both become {target}", "encode them apart")
        taken[target] = source
    return pairs
