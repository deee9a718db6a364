"""A sheet of crops, enlarged: source, reconstruction and four times their difference, where it is worst."""

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import vidlatent
from training.evaluate import FRAMES, clips_under, reconstructed

SIDE = 128  # pixels of a crop
ZOOM = 2
CAPTION = 18
COLUMNS = 2  # clips side by side


def sheet(args: argparse.Namespace) -> None:
    """Write worst.png into --to: a row of three crops for every video under --data."""
    torch.set_num_threads(args.threads)
    model = vidlatent.load_model(str(args.to), device=args.device, dtype=torch.float32)
    rows = [captioned(path.name, worst(model, path)) for path in clips_under(args.data)]
    rows += [np.zeros_like(rows[0])] * (-len(rows) % COLUMNS)
    lines = [np.hstack(rows[i : i + COLUMNS]) for i in range(0, len(rows), COLUMNS)]
    Image.fromarray(np.vstack(lines)).quantize(256).save(args.to / "worst.png", optimize=True)


def worst(model: vidlatent.Model, path: Path) -> np.ndarray:
    """The crop of largest squared error among the clip's first frames, [SIDE, 3 · SIDE, 3] uint8."""
    with vidlatent.open_video(path) as source:
        frames = [eight_bit(frame.rgb) for frame in islice(source.frames(), FRAMES)]
    pairs = zip(frames, reconstructed(model, frames), strict=False)
    found = max((worst_crop(a, b) for a, b in pairs), key=lambda found: found[0])
    return found[1]


def worst_crop(source: np.ndarray, result: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean squared error of the worst of the tiles of a frame, and its three pictures side by side."""
    height, width = source.shape[:2]
    rows = range(0, max(1, height - SIDE + 1), SIDE // 2)
    columns = range(0, max(1, width - SIDE + 1), SIDE // 2)
    square = np.square(source.astype(np.float32) - result).mean(axis=2)
    y, x = max(((y, x) for y in rows for x in columns), key=lambda at: square[tile(*at)].mean())
    a, b = (fitted(picture[tile(y, x)]) for picture in (source, result))
    apart = np.clip(128 + 4 * (b.astype(np.int16) - a), 0, 255).astype(np.uint8)
    return float(square[tile(y, x)].mean()), np.hstack([a, b, apart])


def tile(y: int, x: int) -> tuple[slice, slice]:
    """Rows and columns of a tile."""
    return slice(y, y + SIDE), slice(x, x + SIDE)


def fitted(crop: np.ndarray) -> np.ndarray:
    """A crop on a black square of SIDE, where the picture is smaller."""
    square = np.zeros((SIDE, SIDE, 3), np.uint8)
    square[: crop.shape[0], : crop.shape[1]] = crop
    return square


def eight_bit(rgb: np.ndarray) -> np.ndarray:
    """uint8 pixels of a frame of any depth."""
    return rgb if rgb.dtype == np.uint8 else (rgb >> 8).astype(np.uint8)


def captioned(name: str, crops: np.ndarray) -> np.ndarray:
    """Enlarged crops with their clip's name above."""
    picture = np.repeat(np.repeat(crops, ZOOM, axis=0), ZOOM, axis=1)
    label = Image.new("RGB", (picture.shape[1], CAPTION))
    ImageDraw.Draw(label).text((4, 3), f"{name}: source, result, 4 x difference", fill="white")
    return np.vstack([np.asarray(label), picture])
