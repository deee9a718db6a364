"""How much an error in each latent channel shows in the decoded picture.

A network's channels differ much in that, clips little; so it is measured once for some weights, on the clip
that comes with the package, and kept where what is fetched for models is kept.
"""

import hashlib
import json
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidlatent.engine.model import Model
from vidlatent.errors import VidlatentError
from vidlatent.files import asset, write_note
from vidlatent.io.read.source import open_video
from vidlatent.jobs.progress import SILENT, Progress

SIDE = 128  # pixels of the middle of the picture, or four latents where those are larger
LATENT_FRAMES = 3
PART = 1 / 16  # of a channel's deviation is the error that is made
LEAST = 1e-6  # of the largest sensitivity: the picture may not show a channel at all
_VERSION = 1


def find_sensitivities(model: Model, progress: Progress = SILENT) -> np.ndarray:
    """Of each channel [C]: squared error in the decoded video, [-1, 1], per squared error in the latents."""
    path = place_sensitivities(model)
    kept = path and _read(path, model.spec.channels)
    if kept is not None:
        return kept
    found = measure_sensitivities(model, progress)
    if path:
        with suppress(OSError, VidlatentError):  # where nothing can be kept, it is measured anew
            path.parent.mkdir(parents=True, exist_ok=True)
            write_note(path, json.dumps({"version": _VERSION, "sensitivities": found.tolist()}))
    return found


def place_sensitivities(model: Model) -> Path | None:
    """Where those of this model are kept; None where no hash tells its weights from others."""
    if not model.weights_sha256:
        return None
    from huggingface_hub import constants

    settings = json.dumps([model.weights_sha256, model.spec.changed()], sort_keys=True)
    name = hashlib.sha256(settings.encode()).hexdigest()
    return Path(constants.HF_ASSETS_CACHE) / "vidlatent" / "sensitivities" / f"{name}.json"


def _read(path: Path, channels: int) -> np.ndarray | None:
    """What was kept; None where there is nothing, or nothing of use: it is measured again."""
    try:
        found = json.loads(path.read_bytes())
        values = np.array(found["sensitivities"], np.float64) if found["version"] == _VERSION else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    good = values is not None and values.shape == (channels,) and np.all(np.isfinite(values) & (values > 0))
    return values if good else None


def measure_sensitivities(model: Model, progress: Progress = SILENT) -> np.ndarray:
    """Decode a few latents once, and once more for each channel, with noise in that channel."""
    latents = encode_sample(model)
    channels, noise = latents.shape[1], torch.Generator().manual_seed(0)
    progress.begin(f"{model.spec.name}: what its {channels} channels weigh", channels)
    clean, found = decode(model, latents), np.empty(channels)
    for c in range(channels):
        error = torch.randn(latents[:, c].shape, generator=noise)
        error *= (float(latents[:, c].std()) or 1.0) * PART
        noisy = latents.clone()
        noisy[:, c] += error
        found[c] = float((decode(model, noisy) - clean).square().mean() / error.square().mean())
        progress.frames(c + 1)
    return np.maximum(found, max(found.max(), LEAST) * LEAST)


def encode_sample(model: Model) -> Tensor:
    """Latents [t, C, h, w] of the middle of the package's clip, float32 on the CPU.

    Where a model was loaded to decode alone, its other half is loaded for this.
    """
    if model.only is not None:
        where, settings = model.runtime, dict(model.spec.settings)
        model = model.load(device=where.device, dtype=where.dtype, settings=settings, only="encode")
    grid = model.spec.grid
    side = max(SIDE, 4 * grid.space)
    with open_video(asset("sample.mp4")) as video:
        frames = [crop(frame.rgb, side) for frame in islice(video.frames(), grid.frames(LATENT_FRAMES))]
    moments = torch.cat(list(model.encode_clip(frames)), dim=2)[0].float().cpu()
    return moments.chunk(2)[0].transpose(0, 1).contiguous()


def crop(frame: np.ndarray, side: int) -> np.ndarray:
    """The middle of a frame [H, W, 3], at most `side` pixels high and wide."""
    top, left = (max(0, length - side) // 2 for length in frame.shape[:2])
    return np.ascontiguousarray(frame[top : top + side, left : left + side])


def decode(model: Model, latents: Tensor) -> Tensor:
    """Latents [t, C, h, w] → video [1, 3, T, H, W]."""
    return torch.cat(
        [v.float().cpu() for v in model.decode_stream(latents.split(1), None, len(latents))], dim=2
    )
