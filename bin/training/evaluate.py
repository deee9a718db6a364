"""What the exported model does to clips: PSNR and LPIPS of each, frame by frame, at their own size.

With --side only the middle of each picture is looked at, which is sooner done and tells models apart too.

And where its errors lie. `places`: mean squared errors of the four places in a group, over their mean;
`beat` is the worst over the best. `moving`: share of 8×8 blocks whose luma changes by more than MOVES levels
since the frame before, `moving_error` their share of luma's squared error. `still_psnr`: PSNR of a frame that
stands still, `still_steps` what then moves between neighbours, in levels.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import vidlatent
from training.footage import SUFFIXES
from vidlatent.engine.pixels import to_frames
from vidlatent.metrics.lpips import Lpips
from vidlatent.metrics.psnr import Psnr

FRAMES = 17
GROUP = 4  # frames of a group, after the first frame
MOVES = 6.0  # levels of 255
HELD = 9  # frames for which one stands still
MEANS = ("psnr", "lpips", "moving", "moving_error", "still_psnr", "still_steps")


def evaluate(args: argparse.Namespace) -> None:
    """Print a row for every video under --data, its first FRAMES frames, and their mean."""
    torch.set_num_threads(args.threads)
    model = vidlatent.load_model(str(args.to), device=args.device, dtype=torch.float32)
    rows = list(scores(model, args.data, args.side))
    mean = {key: round(float(np.mean([row[key] for row in rows])), 4) for key in MEANS}
    places = np.mean([row["places"] for row in rows], axis=0)
    beat = round(float(places.max() / places.min()), 3)
    row = {"clip": f"mean of {len(rows)}", **mean, "places": places.round(3).tolist(), "beat": beat}
    print(json.dumps(row), flush=True)


def scores(model: vidlatent.Model, data: Path, side: int | None) -> Iterator[dict[str, object]]:
    """A row for every video under `data`, printed as it comes."""
    for path in clips_under(data):
        row = {"clip": path.name, **score(model, path, side)}
        print(json.dumps(row), flush=True)
        yield row


def clips_under(data: Path) -> list[Path]:
    """Every video under a folder, in order."""
    return sorted(p for p in data.rglob("*") if p.suffix.lower() in SUFFIXES)


def score(model: vidlatent.Model, path: Path, side: int | None) -> dict[str, object]:
    """Mean PSNR (of frames) and LPIPS of the beginning of a clip, and where its errors lie."""
    with vidlatent.open_video(path) as source:
        frames = [frame.rgb for frame in islice(source.frames(), FRAMES)]
    if side:
        frames = [middle(frame, side) for frame in frames]
    result = list(reconstructed(model, frames))[: len(frames)]
    psnr, lpips = Psnr(), Lpips()
    for reference, distorted in zip(frames, result, strict=True):
        pair = [torch.from_numpy(side)[None].to(model.runtime.device) for side in (reference, distorted)]
        psnr.update(*pair)
        lpips.update(*pair)
    return {
        "psnr": round(psnr.result()["mean"], 3),
        "lpips": round(lpips.result()["mean"], 4),
        **by_place(psnr.per_frame()),
        **by_motion(frames, result),
        **at_rest(model, frames[len(frames) // 2]),
    }


def middle(frame: np.ndarray, side: int) -> np.ndarray:
    """The middle of a frame [H, W, 3], at most so many pixels high and wide."""
    rows, columns = (max(0, (length - side) // 2) for length in frame.shape[:2])
    return np.ascontiguousarray(frame[rows : rows + side, columns : columns + side])


def reconstructed(model: vidlatent.Model, frames: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Frames [H, W, 3] through latents and back; the last is repeated to the grid."""
    moments = model.encode_stream(model.fitted(frames))
    latents = (latent for window in moments for latent in window.chunk(2, dim=1)[0].unbind(2))
    for video in model.decode_stream(latents):
        yield from to_frames(video, *frames[0].shape[:2], frames[0].dtype)


def by_place(psnr: np.ndarray) -> dict[str, list[float]]:
    """Mean squared error of the places in a group over the mean of all, from the frames' PSNR."""
    groups = (10 ** (-psnr[1:] / 10))[: (len(psnr) - 1) // GROUP * GROUP].reshape(-1, GROUP)
    places = groups.mean(axis=0)
    return {"places": (places / places.mean()).round(3).tolist()}


def by_motion(frames: list[np.ndarray], result: list[np.ndarray]) -> dict[str, float]:
    """How many blocks move, and their share of the squared error, after the first frame."""
    before = blocks = moving = error = moving_error = 0
    for n, (source, made) in enumerate(zip(frames, result, strict=True)):
        now, errors = luma(source), (luma(source) - luma(made)).square()
        if n:
            moves = block_means((now - before).abs()) > MOVES
            squares = block_means(errors)
            blocks, moving = blocks + moves.numel(), moving + int(moves.sum())
            error, moving_error = error + float(squares.sum()), moving_error + float(squares[moves].sum())
        before = now
    return {"moving": round(moving / blocks, 4), "moving_error": round(moving_error / error, 4)}


def luma(rgb: np.ndarray) -> Tensor:
    """Luma [H, W] of a frame of any depth, in levels of 255."""
    weights = torch.tensor([0.299, 0.587, 0.114]) * 255 / np.iinfo(rgb.dtype).max
    return torch.from_numpy(rgb.astype(np.float32)) @ weights


def block_means(x: Tensor) -> Tensor:
    """Means of 8×8 blocks of [H, W]."""
    return F.avg_pool2d(x[None], 8)[0]


def at_rest(model: vidlatent.Model, frame: np.ndarray) -> dict[str, float]:
    """What becomes of a frame that stands still: PSNR, and how much neighbours differ, in levels."""
    result = np.stack(list(reconstructed(model, [frame] * HELD))[:HELD]).astype(np.float32)
    result *= 255 / np.iinfo(frame.dtype).max
    wanted = frame.astype(np.float32) * 255 / np.iinfo(frame.dtype).max
    error = max(float(np.square(result - wanted).mean()), 1e-6)
    steps = float(np.abs(np.diff(result, axis=0)).mean())
    return {"still_psnr": round(10 * np.log10(255**2 / error), 3), "still_steps": round(steps, 3)}
