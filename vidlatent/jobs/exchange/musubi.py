"""musubi-tuner's latent cache: NAME_00000-FFF_WWWWxHHHH_ARCH.safetensors.

Each holds `latents_{t}x{h}x{w}_{dtype}` [C, t, h, w]. The architecture decides the space: musubi-tuner keeps
the latents of HunyuanVideo (hv) raw, and those of Wan (wan) normalised.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from vidlatent.errors import UsageError, parameter
from vidlatent.jobs.exchange.files import write_safetensors
from vidlatent.jobs.exchange.tool import NORMALISED, RAW, ExportOptions, Piece

# Short name in the file's name → name in its header, and the space of musubi-tuner's own caches.
ARCHITECTURES = {"hv": ("hunyuan_video", RAW), "wan": ("wan", NORMALISED)}


def write(pieces: Sequence[Piece], target: Path, options: ExportOptions) -> Iterator[Path]:
    """One file per clip."""
    if options.architecture not in ARCHITECTURES:
        raise UsageError(
            f"{parameter('architecture')} {options.architecture}: unknown",
            f"one of {', '.join(ARCHITECTURES)}",
        )
    full_name, space = ARCHITECTURES[options.architecture]
    for piece in pieces:
        row, latents = piece.row, piece.latents(space)
        t, h, w = latents.shape[1:]
        dtype = str(latents.dtype).removeprefix("torch.")
        size = f"{row.width:04d}x{row.height:04d}"
        name = f"{piece.name}_00000-{row.frames:03d}_{size}_{options.architecture}.safetensors"
        metadata = {
            "architecture": full_name,
            "width": str(row.width),
            "height": str(row.height),
            "format_version": "1.0.1",
            "frame_count": str(row.frames),
        }
        yield write_safetensors(target / name, {f"latents_{t}x{h}x{w}_{dtype}": latents}, metadata)
