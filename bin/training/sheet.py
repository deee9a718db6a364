"""Sheets of crops, enlarged: source, reconstruction and four times their difference.

One shows where every clip is worst, the other what should be easy and shows any grid, tint or ripple:
the flattest, darkest and most saturated places of all clips, and text.
"""

import argparse
from collections.abc import Callable
from itertools import islice
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import vidlatent
from training.evaluate import FRAMES, clips_under, reconstructed

SIDE = 128  # pixels of a crop
ZOOM = 2
CAPTION = 18
COLUMNS = 2  # clips side by side


def sheet(args: argparse.Namespace) -> None:
    """Write worst.png (a crop of every video under --data) and plain.png (what is easy) into --to."""
    torch.set_num_threads(args.threads)
    model = vidlatent.load_model(str(args.to), device=args.device, dtype=torch.float32)
    rows, easy = [], dict.fromkeys(EASY, (-np.inf, "", None))
    for path in clips_under(args.data):
        pairs = beginning(model, path)
        rows.append(captioned(path.name, max((found(worst, *pair) for pair in pairs), key=itemgetter(0))[1]))
        for kind, score in EASY.items():
            value, crops = found(score, *pairs[-1])
            easy[kind] = max(easy[kind], (value, path.name, crops), key=itemgetter(0))
    write(rows, args.to / "worst.png")
    plain = [captioned(f"{kind}, {name}", crops) for kind, (_, name, crops) in easy.items()]
    write([*plain, captioned("text", text(model))], args.to / "plain.png")


def beginning(model: vidlatent.Model, path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """The first frames of a clip, and what becomes of them."""
    with vidlatent.open_video(path) as source:
        frames = [eight_bit(frame.rgb) for frame in islice(source.frames(), FRAMES)]
    return list(zip(frames, reconstructed(model, frames), strict=False))


def worst(source: np.ndarray, result: np.ndarray) -> float:
    """Mean squared error."""
    return float(np.square(source.astype(np.float32) - result).mean())


def flat(source: np.ndarray, _: np.ndarray) -> float:
    """How little neighbours differ, in pictures that are neither black nor white."""
    grey = source.mean(axis=2)
    steps = sum(np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1))
    return -float(steps) if 32 < grey.mean() < 224 else -np.inf


def dark(source: np.ndarray, _: np.ndarray) -> float:
    """How little light there is, where there is something to see."""
    return -float(source.mean()) if source.std() > 2 else -np.inf


def saturated(source: np.ndarray, _: np.ndarray) -> float:
    """How far the primaries lie apart."""
    return float((source.max(axis=2) - source.min(axis=2).astype(np.float32)).mean())


EASY: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "flat": flat, "dark": dark, "saturated": saturated
}  # fmt: skip


def text(model: vidlatent.Model) -> np.ndarray:
    """Letters on flat colours, still, in the last of some frames."""
    picture = Image.new("RGB", (SIDE, SIDE), (40, 60, 90))
    pen = ImageDraw.Draw(picture)
    for size, y in ((10, 4), (14, 22), (20, 46), (32, 78)):
        pen.text((4, y), "Sphinx of black quartz", fill="white", font=ImageFont.load_default(size))
    frames = [np.asarray(picture)] * 9
    *_, last = reconstructed(model, frames)
    return side_by_side(frames[-1], last)


def found(
    score: Callable[[np.ndarray, np.ndarray], float], source: np.ndarray, result: np.ndarray
) -> tuple[float, np.ndarray]:
    """The highest score of a frame's tiles, and that tile's three pictures side by side."""
    height, width = source.shape[:2]
    rows = range(0, max(1, height - SIDE + 1), SIDE // 2)
    columns = range(0, max(1, width - SIDE + 1), SIDE // 2)
    tiles = [tile(y, x) for y in rows for x in columns]
    value, at = max(((score(source[at], result[at]), at) for at in tiles), key=itemgetter(0))
    return value, side_by_side(fitted(source[at]), fitted(result[at]))


def side_by_side(source: np.ndarray, result: np.ndarray) -> np.ndarray:
    """Source, result, and four times their difference around grey."""
    apart = np.clip(128 + 4 * (result.astype(np.int16) - source), 0, 255).astype(np.uint8)
    return np.hstack([source, result, apart])


def write(rows: list[np.ndarray], path: Path) -> None:
    """All rows as one picture of few colours."""
    rows = rows + [np.zeros_like(rows[0])] * (-len(rows) % COLUMNS)
    lines = [np.hstack(rows[i : i + COLUMNS]) for i in range(0, len(rows), COLUMNS)]
    Image.fromarray(np.vstack(lines)).quantize(256).save(path, optimize=True)


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
