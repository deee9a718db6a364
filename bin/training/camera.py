"""Camera moves over pictures: pan, zoom and rotation, parallax of two of them, and text on top."""

from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from vidlatent.engine.pixels import to_floats

SUFFIXES = {".jpg", ".jpeg", ".png"}
LEVELS = 3
SPEEDS = (0.2, 16.0)  # of moves, pixels per frame, any octave as often as another
SHUTTER = 0.6  # of the time between frames, where motion blurs
GLYPHS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?-+/()      "


def load_photos(data: Path) -> list[list[Tensor]]:
    """Every photograph under a folder, as a pyramid of images [3, H, W] in [-1, 1]."""
    paths = (path for path in sorted(data.rglob("*")) if path.suffix.lower() in SUFFIXES)
    return [pyramid(read_photo(path)) for path in paths]


def read_photo(path: Path) -> np.ndarray:
    """[H, W, 3] uint8."""
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def pyramid(picture: np.ndarray) -> list[Tensor]:
    """[H, W, 3] uint8 → the image [3, H, W] in [-1, 1], half precision, and its halves."""
    levels = [to_floats(torch.from_numpy(picture)).permute(2, 0, 1).half()]
    while len(levels) < LEVELS:
        levels.append(F.avg_pool2d(levels[-1][None].float(), 2)[0].half())
    return levels


def picture_clip(pictures: list[list[Tensor]], frames: int, crop: int, rng: np.random.Generator) -> Tensor:
    """A camera move [3, T, crop, crop] over a picture; at times one or two move before it."""
    clip = camera_move(pictures, frames, crop, rng)
    for _ in range(rng.choice([0, 1, 2], p=[0.6, 0.27, 0.13])):
        mask = moving_mask(frames, crop, rng)
        clip = clip * (1 - mask) + camera_move(pictures, frames, crop, rng) * mask
    return clip


def camera_move(pictures: list[list[Tensor]], frames: int, crop: int, rng: np.random.Generator) -> Tensor:
    """Pan, zoom and rotation over a picture, or none of them, [3, T, crop, crop]; what is fast may blur."""
    levels = pictures[rng.integers(len(pictures))]
    still = rng.random() < 0.12
    speed, turn = 0.0 if still else float(np.exp(rng.uniform(*np.log(SPEEDS)))), rng.uniform(0, 2 * np.pi)
    zoom = 0.0 if still else rng.normal(0, 0.004)
    spin = 0.0 if still or rng.random() < 0.5 else rng.normal(0, 0.006)
    image = levels[rng.integers(LEVELS if speed < 3 else 1)]  # a small one would soon be left
    t = torch.arange(frames)[:, None, None] - frames // 2
    across = placed(image.shape[2], crop, frames * speed * abs(np.cos(turn)), rng)
    down = placed(image.shape[1], crop, frames * speed * abs(np.sin(turn)), rng)

    def seen(t: Tensor) -> Tensor:
        scale, angle = torch.exp(zoom * t), spin * t
        yy, xx = torch.meshgrid(*[torch.arange(crop) - (crop - 1) / 2] * 2, indexing="ij")
        x = across + speed * np.cos(turn) * t + scale * (torch.cos(angle) * xx - torch.sin(angle) * yy)
        y = down + speed * np.sin(turn) * t + scale * (torch.sin(angle) * xx + torch.cos(angle) * yy)
        return sample(image, x.clamp(0, image.shape[2] - 1.01), y.clamp(0, image.shape[1] - 1.01))

    if speed > 1.5 and rng.random() < 0.4:
        return (seen(t - SHUTTER / 2) + seen(t) + seen(t + SHUTTER / 2)) / 3
    return seen(t)


def placed(length: int, crop: int, path: float, rng: np.random.Generator) -> float:
    """Where the middle of a move lies along a side of a picture, so that the move stays on it if it can."""
    margin = min(crop * 0.6 + path / 2, length / 2)
    return rng.uniform(margin, length - margin)


def sample(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear samples [3, T, h, w] of an image [3, H, W] at pixel positions [T, h, w]."""
    left, top = int(x.min()), int(y.min())
    region = image[:, top : int(y.max()) + 2, left : int(x.max()) + 2].float()
    across, down = (x - left) / (region.shape[2] - 1), (y - top) / (region.shape[1] - 1)
    grid = torch.stack([across, down], dim=-1).float() * 2 - 1
    frames = region.expand(len(grid), -1, -1, -1)
    return F.grid_sample(frames, grid, padding_mode="border", align_corners=True).transpose(0, 1)


def moving_mask(frames: int, crop: int, rng: np.random.Generator) -> Tensor:
    """[1, T, crop, crop] in [0, 1]: a disc or half-plane with an edge of a pixel or two, that moves."""
    t = torch.arange(frames)[:, None, None]
    yy, xx = torch.meshgrid(*[torch.arange(crop, dtype=torch.float32)] * 2, indexing="ij")
    (cy, cx), (vy, vx) = rng.uniform(0, crop, 2), rng.normal(0, 2, 2)
    dy, dx = yy - cy - vy * t, xx - cx - vx * t
    if rng.random() < 0.5:
        inside = rng.uniform(0.15, 0.4) * crop - torch.sqrt(dx**2 + dy**2)
    else:
        turn = rng.uniform(0, 2 * np.pi)
        inside = np.cos(turn) * dx + np.sin(turn) * dy
    return torch.sigmoid(inside * rng.uniform(1, 4))[None].float()


def write_text(clip: Tensor, rng: np.random.Generator) -> Tensor:
    """A line or two of text over a clip [3, T, H, W], still or scrolling by whole pixels."""
    frames, height, width = clip.shape[1:]
    size = int(rng.integers(8, 28))
    sheet = Image.new("L", (width * 3, height * 3))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size)
    for line in range(int(rng.integers(1, 4))):
        letters = "".join(rng.choice(list(GLYPHS), 48))
        pen.text((0, height + int(line * 1.3 * size)), letters, fill=255, font=font)
    ink = torch.from_numpy(np.asarray(sheet, np.float32) / 255)
    vy, vx = (0, 0) if rng.random() < 0.5 else rng.integers(-6, 7, 2)
    y, x = rng.integers(height // 2, height), rng.integers(width // 2, width)
    rows = [(int(y + vy * t) % (2 * height), int(x + vx * t) % (2 * width)) for t in range(frames)]
    mask = torch.stack([ink[r : r + height, c : c + width] for r, c in rows])[None]
    colour = torch.from_numpy(rng.choice([-1.0, 1.0], 3) if rng.random() < 0.5 else rng.uniform(-1, 1, 3))
    return clip * (1 - mask) + colour.float().view(3, 1, 1, 1) * mask
