"""Real footage: evenly spread segments of every video of a folder, kept decoded, and crops of them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vidlatent.engine.pixels import to_floats

SUFFIXES = {".mp4", ".mkv", ".mov", ".webm", ".avi", ".264", ".h265", ".m2v", ".mts"}
SEGMENT_FRAMES = 40


def pack_footage(data: Path, cache: Path, segments: int) -> list[np.ndarray]:
    """Segments [T, H, W, 3] uint8 of every video under `data`, memory-mapped from `cache`."""
    cache.mkdir(parents=True, exist_ok=True)
    paths = sorted(p for p in data.rglob("*") if p.suffix.lower() in SUFFIXES)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda path: pack(path, cache, segments), paths))
    kept = [found for path in paths for found in sorted(cache.glob(f"{path.stem}-*.npy"))]
    return [np.load(path, mmap_mode="r") for path in kept]


def pack(path: Path, cache: Path, segments: int) -> None:
    """Keep the segments of a video in `cache`, unless they are there."""
    if not list(cache.glob(f"{path.stem}-*.npy")):
        for i, frames in enumerate(read_segments(path, segments)):
            np.save(cache / f"{path.stem}-{i:02d}.npy", frames)


def read_segments(path: Path, segments: int) -> Iterator[np.ndarray]:
    """Up to `segments` runs of SEGMENT_FRAMES frames, first to last; the whole clip where it is shorter."""
    starts = segment_starts(count_frames(path), segments)
    held: dict[int, list[np.ndarray]] = {start: [] for start in starts}
    with av.open(str(path)) as container:
        for n, frame in enumerate(container.decode(video=0)):
            for start in [s for s in held if s <= n]:
                held[start].append(frame.to_ndarray(format="rgb24"))
                if len(held[start]) == SEGMENT_FRAMES:
                    yield np.stack(held.pop(start))
    yield from (np.stack(frames) for frames in held.values() if frames)


def count_frames(path: Path) -> int:
    """Video packets of the file: its frames, near enough to spread segments over."""
    with av.open(str(path)) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


def segment_starts(total: int, segments: int) -> list[int]:
    """First frames of evenly spread segments of a clip of `total` frames."""
    count = min(segments, max(1, total // SEGMENT_FRAMES))
    last = max(0, total - SEGMENT_FRAMES)
    return [round(i * last / max(1, count - 1)) for i in range(count)]


def footage_clip(bank: list[np.ndarray], frames: int, crop: int, rng: np.random.Generator) -> Tensor:
    """A random crop [3, T, crop, crop] of a random segment, at times sped up, backwards or half the size."""
    segment = bank[rng.integers(len(bank))]
    step = 2 if rng.random() < 0.15 and segment.shape[0] >= 2 * frames - 1 else 1
    start = rng.integers(max(1, segment.shape[0] - step * (frames - 1)))
    halve = rng.random() < 0.15 and min(segment.shape[1:3]) >= 2 * crop
    side = 2 * crop if halve else crop
    y, x = (rng.integers(max(1, length - side + 1)) for length in segment.shape[1:3])
    cut = segment[start : start + step * (frames - 1) + 1 : step, y : y + side, x : x + side]
    if rng.random() < 0.5:
        cut = cut[::-1]
    clip = to_floats(torch.from_numpy(np.ascontiguousarray(cut))).permute(3, 0, 1, 2)
    if halve:
        clip = F.avg_pool2d(clip, 2)
    later, down, right = frames - clip.shape[1], crop - clip.shape[2], crop - clip.shape[3]
    missing = later or down or right
    return F.pad(clip, (0, right, 0, down, 0, later), mode="replicate") if missing else clip
