"""What the exported model does to clips: PSNR and LPIPS of each, frame by frame, at their own size."""

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

import vidlatent
from training.footage import SUFFIXES
from vidlatent.engine.pixels import to_frames
from vidlatent.metrics.lpips import Lpips
from vidlatent.metrics.psnr import Psnr

FRAMES = 17


def evaluate(args: argparse.Namespace) -> None:
    """Print a row for every video under --data, its first FRAMES frames, and their mean."""
    torch.set_num_threads(args.threads)
    model = vidlatent.load_model(str(args.to), device=args.device, dtype=torch.float32)
    rows = list(scores(model, args.data))
    mean = {key: round(sum(row[key] for row in rows) / len(rows), 4) for key in ("psnr", "lpips")}
    print(json.dumps({"clip": f"mean of {len(rows)}", **mean}), flush=True)


def scores(model: vidlatent.Model, data: Path) -> Iterator[dict[str, object]]:
    """A row for every video under `data`, printed as it comes."""
    for path in clips_under(data):
        row = {"clip": path.name, **score(model, path)}
        print(json.dumps(row), flush=True)
        yield row


def clips_under(data: Path) -> list[Path]:
    """Every video under a folder, in order."""
    return sorted(p for p in data.rglob("*") if p.suffix.lower() in SUFFIXES)


def score(model: vidlatent.Model, path: Path) -> dict[str, float]:
    """Mean PSNR (of frames) and LPIPS of the beginning of a clip."""
    with vidlatent.open_video(path) as source:
        frames = [frame.rgb for frame in islice(source.frames(), FRAMES)]
    psnr, lpips = Psnr(), Lpips()
    for reference, distorted in zip(frames, reconstructed(model, frames), strict=False):
        pair = [torch.from_numpy(side)[None].to(model.runtime.device) for side in (reference, distorted)]
        psnr.update(*pair)
        lpips.update(*pair)
    return {"psnr": round(psnr.result()["mean"], 3), "lpips": round(lpips.result()["mean"], 4)}


def reconstructed(model: vidlatent.Model, frames: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Frames [H, W, 3] through latents and back; the last is repeated to the grid."""
    moments = model.encode_stream(model.fitted(frames))
    latents = (latent for window in moments for latent in window.chunk(2, dim=1)[0].unbind(2))
    for video in model.decode_stream(latents):
        yield from to_frames(video, *frames[0].shape[:2], frames[0].dtype)
