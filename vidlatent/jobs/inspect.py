"""Inspect: what a file says about itself, as one JSON object."""

from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

from vidlatent.errors import BadInput, UsageError, parameter
from vidlatent.files import sha256_file
from vidlatent.io.latent.reader import LatentReader, open_latent
from vidlatent.io.read.source import ReadOptions, open_video
from vidlatent.io.sources.disk import DiskSource, refuse_special
from vidlatent.jobs.picture import read_picture
from vidlatent.json_values import to_json_values
from vidlatent.models import registry
from vidlatent.models.tensor_file import opened

WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth")


def inspect(path: Path, verify: bool = False, stream: int = 0) -> dict[str, Any]:
    """Facts of a `.latent`, a weight file or model folder, or else a video; `verify` reads it to its end.

    `stream` chooses one where a video has several.
    """
    if not path.exists():
        raise BadInput(f"{path}: no such file", "check the path")
    refuse_special(DiskSource(path))  # whoever opens a pipe waits until somebody writes into it
    latent, weights = path.suffix == ".latent", path.suffix in WEIGHTS or (path / "config.json").is_file()
    if stream and (latent or weights):
        raise UsageError(
            f"{path}: no video, so it has no stream {stream}", f"leave {parameter('stream')} away"
        )
    if latent:
        return inspect_latent(path, verify)
    return inspect_weights(path) if weights else inspect_video(path, verify, stream)


def inspect_latent(path: Path, verify: bool) -> dict[str, Any]:
    """The header of a `.latent`, and the size of its tensors and its clock in a few numbers."""
    with open_latent(path) as reader:
        if verify:
            reader.verify()
            read_picture(reader)
        return {
            "file": str(path),
            "kind": "latent",
            "bytes": path.stat().st_size,
            "latents": list(reader.shape),
            "dtype": reader.dtype,
            "logvar": reader.has_logvar,
            "audio": reader.has_audio,
            "clock": sum_up_clock(reader),
            **to_json_values(asdict(reader.header), spell_briefly),
            "verified": verify,
        }


def sum_up_clock(reader: LatentReader) -> dict[str, Any]:
    """The times of the clip in a few numbers."""
    clock = reader.clock
    return {
        "frames": len(clock),
        "time_base": str(clock.time_base),
        "first_s": round(float(clock.seconds(0)), 6),
        "duration_s": round(float(clock.duration), 6),
        "average_fps": round(float(clock.average_rate), 4),
    }


def inspect_weights(path: Path) -> dict[str, Any]:
    """Keys and size of a weight file, and its model where a config names one."""
    described = path.is_dir() or path.with_name("config.json").is_file()
    found = registry.resolve(path) if described else None
    file = found.weights if found else path
    with opened(file) as held:
        keys, dtypes = list(held.shapes), sorted(set(held.dtypes.values()))
        count = sum(prod(shape) for shape in held.shapes.values())
    return {
        "file": str(file),
        "kind": "weights",
        "bytes": file.stat().st_size,
        "sha256": sha256_file(file),
        "model": found.spec.name if found else None,
        "tensors": len(keys),
        "parameters": count,
        "dtypes": dtypes,
        "first_keys": keys[:5],
    }


def inspect_video(path: Path, verify: bool, stream: int = 0) -> dict[str, Any]:
    """What a video's header says of one stream; with `verify`, also what decoding all of it counted."""
    with open_video(path, ReadOptions(stream=stream)) as video:
        facts = {
            "file": str(path),
            "kind": "video",
            "stream": stream,
            **to_json_values(asdict(video.info), spell_briefly),
        }
        if verify:
            facts["counted"] = count_frames(video.frames())
        facts["notices"] = list(video.notices)
    facts["verified"] = verify
    return facts


def count_frames(frames: Iterator) -> dict[str, Any]:
    """How many frames there really are, and their times in ticks."""
    times = [frame.pts for frame in frames]
    steps = {b - a for a, b in pairwise(times)}
    return {
        "frames": len(times),
        "first_pts": times[0],
        "last_pts": times[-1],
        "variable_frame_rate": len(steps) > 1,
    }


def spell_briefly(value: object) -> object:
    """Fractions as people write them: 25, or 30000/1001."""
    return str(value) if isinstance(value, Fraction) else value
