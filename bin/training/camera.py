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
    """A camera move [3, T, crop, crop] over a picture; at times one moves before another."""
    clip = camera_move(pictures, frames, crop, rng)
    if rng.random() < 0.25:
        mask = moving_mask(frames, crop, rng)
        clip = clip * (1 - mask) + camera_move(pictures, frames, crop, rng) * mask
    return clip


def camera_move(pictures: list[list[Tensor]], frames: int, crop: int, rng: np.random.Generator) -> Tensor:
    """Pan, zoom and rotation over a picture, or none of them, [3, T, crop, crop]."""
    image = pictures[rng.integers(len(pictures))][rng.integers(LEVELS)]
    height, width = image.shape[-2:]
    still = rng.random() < 0.15
    speed = np.zeros(2) if still else rng.normal(0, 1.5, 2)
    zoom = 0.0 if still else rng.normal(0, 0.004)
    spin = 0.0 if still or rng.random() < 0.5 else rng.normal(0, 0.006)
    t = torch.arange(frames)[:, None, None] - frames // 2
    scale, angle = torch.exp(zoom * t), spin * t
    margin = crop * 0.8
    cy = rng.uniform(margin, max(margin + 1, height - margin)) + speed[0] * t
    cx = rng.uniform(margin, max(margin + 1, width - margin)) + speed[1] * t
    yy, xx = torch.meshgrid(*[torch.arange(crop) - (crop - 1) / 2] * 2, indexing="ij")
    x = cx + scale * (torch.cos(angle) * xx - torch.sin(angle) * yy)
    y = cy + scale * (torch.sin(angle) * xx + torch.cos(angle) * yy)
    return sample(image, x.clamp(0, width - 1.01), y.clamp(0, height - 1.01))


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
    vy, vx = (0, 0) if rng.random() < 0.5 else rng.integers(-2, 3, 2)
    y, x = rng.integers(height // 2, height), rng.integers(width // 2, width)
    rows = [(int(y + vy * t) % (2 * height), int(x + vx * t) % (2 * width)) for t in range(frames)]
    mask = torch.stack([ink[r : r + height, c : c + width] for r, c in rows])[None]
    colour = torch.from_numpy(rng.choice([-1.0, 1.0], 3) if rng.random() < 0.5 else rng.uniform(-1, 1, 3))
    return clip * (1 - mask) + colour.float().view(3, 1, 1, 1) * mask
