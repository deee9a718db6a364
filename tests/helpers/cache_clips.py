"""Small real videos, and what a cache made of them looks like; loaded by path from the tests."""

import hashlib
from dataclasses import fields
from pathlib import Path

import av
import numpy as np

from vidlatent.engine.load import load_model
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.cache.manifest import Manifest
from vidlatent.jobs.cache.options import RunOptions
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.jobs.cache.run import run
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.tally import Tally

SIDE = 32
ONE = RunOptions(workers=1)


def write_clip(path: Path, seed: int, frames: int = 9, size: tuple[int, int] = (SIDE, SIDE)) -> Path:
    """A lossless clip of noise at 25 frames per second; the seed decides over every byte."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "bgr24"
        for _ in range(frames):
            pixels = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")))
        container.mux(stream.encode(None))
    return path


def write_clips(folder: Path, count: int) -> Path:
    """Clips of different content, lengths and names."""
    for n in range(count):
        write_clip(folder / f"clip{n}.avi", n, frames=5 + 4 * (n % 3))
    return folder


def recipe(**wishes) -> Recipe:
    """The toy's own plan, and what is to be read; wishes are options of the recipe, or of reading."""
    own = {f.name: wishes.pop(f.name) for f in fields(Recipe) if f.name in wishes}
    return Recipe(load_model("toy").spec.plan, ReadOptions(**wishes), **own)


def cache(source: Path | str, root: Path, options: RunOptions = ONE, **wishes) -> Tally:
    """Cache with the toy, in this process."""
    return run([str(source)], root, load_model("toy", "cpu"), recipe(**wishes), options)


def rows(root: Path) -> list:
    """The last row of every clip."""
    return list(Manifest(Store.open(root)).rows())


def objects(root: Path) -> dict[str, str]:
    """Every file below objects/, and the sha256 of its bytes."""
    files = (p for p in sorted((root / "objects").rglob("*")) if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def truth(root: Path) -> list[tuple]:
    """What the manifest says, without when, how often and how fast."""
    names = ("source", "span", "status", "key", "shape", "frames", "bytes", "checksum", "error", "facts")
    return [tuple(str(getattr(row, name)) for name in names) for row in rows(root)]
