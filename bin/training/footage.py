"""Real footage: evenly spread segments of every video of a folder, kept decoded, and crops of them."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vidlatent.engine.pixels import to_floats

SUFFIXES = {".mp4", ".mkv", ".mov", ".webm", ".avi", ".264", ".h265", ".m2v", ".mts"}
SEGMENT_FRAMES = 68  # seventeen frames, four apart, fit in
WINDOW = (368, 640)  # rows and columns of a segment at the most: large footage is cut, not made smaller


def pack_footage(data: Path, cache: Path, segments: int) -> list[list[np.ndarray]]:
    """Segments [T, H, W, 3] uint8 of every video under `data`, a list for each, mapped from `cache`."""
    paths = sorted(p for p in data.rglob("*") if p.suffix.lower() in SUFFIXES)
    folders = [cache / kept_name(path, data, segments) for path in paths]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda path, folder: pack(path, folder, segments), paths, folders))
    return [[np.load(file, mmap_mode="r") for file in sorted(folder.iterdir())] for folder in folders]


def kept_name(path: Path, data: Path, segments: int) -> str:
    """A folder's name that tells videos under `data` apart, and what was kept of them."""
    told = (path.relative_to(data).as_posix(), path.stat().st_size, segments, SEGMENT_FRAMES, WINDOW)
    return f"{path.stem}-{sha256(repr(told).encode()).hexdigest()[:16]}"


def pack(path: Path, folder: Path, segments: int) -> None:
    """Keep the segments of a video in `folder`, which appears when they are complete."""
    if folder.exists():
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for i, frames in enumerate(read_segments(path, segments)):
        np.save(partial / f"{i:02d}.npy", frames)
    partial.rename(folder)


def read_segments(path: Path, segments: int) -> Iterator[np.ndarray]:
    """Up to `segments` runs of SEGMENT_FRAMES frames, first to last; the whole clip where it is shorter."""
    starts = segment_starts(count_frames(path), segments)
    held: dict[int, list[np.ndarray]] = {start: [] for start in starts}
    with av.open(str(path)) as container:
        for n, frame in enumerate(container.decode(video=0)):
            for start in [s for s in held if s <= n]:
                picture = frame.to_ndarray(format="rgb24")
                held[start].append(picture[window(start, *picture.shape[:2])].copy())
                if len(held[start]) == SEGMENT_FRAMES:
                    yield np.stack(held.pop(start))
    yield from (np.stack(frames) for frames in held.values() if frames)


def window(start: int, height: int, width: int) -> tuple[slice, slice]:
    """What is kept of the frames of a segment: at most WINDOW, somewhere else in every segment."""
    rng = np.random.default_rng(start)
    corners = [
        rng.integers(max(1, side - most + 1)) for side, most in zip((height, width), WINDOW, strict=True)
    ]
    rows, columns = (slice(at, at + most) for at, most in zip(corners, WINDOW, strict=True))
    return rows, columns


def count_frames(path: Path) -> int:
    """Video packets of the file: its frames, near enough to spread segments over."""
    with av.open(str(path)) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


def segment_starts(total: int, segments: int) -> list[int]:
    """First frames of evenly spread segments of a clip of `total` frames."""
    count = min(segments, max(1, total // SEGMENT_FRAMES))
    last = max(0, total - SEGMENT_FRAMES)
    return [round(i * last / max(1, count - 1)) for i in range(count)]


def footage_clip(bank: list[list[np.ndarray]], frames: int, crop: int, rng: np.random.Generator) -> Tensor:
    """A random crop [3, T, crop, crop] of some video: at times sped up, backwards or half the size."""
    video = bank[rng.integers(len(bank))]
    segment = video[rng.integers(len(video))]
    fastest = min(4, (len(segment) - 1) // max(1, frames - 1))
    step = rng.integers(2, fastest + 1) if rng.random() < 1 / 3 and fastest > 1 else 1
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
