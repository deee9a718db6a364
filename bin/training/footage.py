"""Real footage: evenly spread segments of every video of a folder, kept decoded, and crops of them."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SUFFIXES = {".mp4", ".mkv", ".mov", ".webm", ".avi", ".264", ".h265", ".m2v", ".mts"}
SEGMENT_FRAMES = 24


def pack_footage(data: Path, cache: Path, segments: int) -> list[np.ndarray]:
    """Segments [T, H, W, 3] uint8 of every video under `data`, memory-mapped from `cache`."""
    cache.mkdir(parents=True, exist_ok=True)
    bank = []
    for path in sorted(p for p in data.rglob("*") if p.suffix.lower() in SUFFIXES):
        pattern = f"{path.stem}-*.npy"
        if not list(cache.glob(pattern)):
            for i, frames in enumerate(read_segments(path, segments)):
                np.save(cache / f"{path.stem}-{i:02d}.npy", frames)
        bank += [np.load(p, mmap_mode="r") for p in sorted(cache.glob(pattern))]
    return bank


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
    """A random crop [3, T, crop, crop] of a random segment, at times sped up or run backwards."""
    segment = bank[rng.integers(len(bank))]
    step = 2 if rng.random() < 0.15 and segment.shape[0] >= 2 * frames - 1 else 1
    start = rng.integers(max(1, segment.shape[0] - step * (frames - 1)))
    y, x = (rng.integers(max(1, side - crop + 1)) for side in segment.shape[1:3])
    cut = segment[start : start + step * (frames - 1) + 1 : step, y : y + crop, x : x + crop]
    if rng.random() < 0.5:
        cut = cut[::-1]
    clip = torch.from_numpy(np.ascontiguousarray(cut)).permute(3, 0, 1, 2).float() / 127.5 - 1
    missing = frames - clip.shape[1], crop - clip.shape[2], crop - clip.shape[3]
    later, down, right = missing
    return F.pad(clip, (0, right, 0, down, 0, later), mode="replicate") if any(missing) else clip
