"""16-bit planes to interleaved pixels, with white at 65535, in memory that is used again."""

import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from av import VideoFrame

_BANDS = 4  # parts of a picture that are converted at the same time, where there are threads
_CACHED_PIXELS = 1 << 15
_WHITE = 65535


class BlockPool:
    """Blocks of memory of one size. A block is lent again once nobody holds an array on it any more.

    A fresh block of dozens of megabytes costs a page fault every 4 KiB, a quarter of the time that
    converting a picture takes.
    """

    def __init__(self) -> None:
        self._blocks: list[tuple[bytearray, weakref.ref]] = []

    def lend(self, count: int) -> np.ndarray:
        """An array uint16 [count] with any values in it. It counts as lent while any view of it lives."""
        kept = [(block, user) for block, user in self._blocks if len(block) == 2 * count]
        block = next((block for block, user in kept if user() is None), None) or bytearray(2 * count)
        # Not a view of a longer array: views of that hold the longer one, and this one would seem unused.
        lent = np.frombuffer(block, np.uint16)
        self._blocks = [entry for entry in kept if entry[0] is not block] + [(block, weakref.ref(lent))]
        return lent


class Interleaver:
    """Converts gbrp16le frames to RGB [H, W, 3] uint16, on `threads` threads."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(min(threads, _BANDS))
        self._blocks = BlockPool()

    def __call__(self, frame: VideoFrame, bits: int) -> np.ndarray:
        """Every sample v becomes v + (v >> bits), so that white becomes 65535; with 16 bits v stays v."""
        height, width = frame.height, frame.width
        planes = [np.frombuffer(frame.planes[i], np.uint16).reshape(height, -1) for i in (2, 0, 1)]  # of GBR
        out = self._blocks.lend(height * width * 3).reshape(height, width, 3)
        band = -(-height // _BANDS)
        jobs = [
            self._pool.submit(_whiten, [plane[top : top + band, :width] for plane in planes], bits, part)
            for top in range(0, height, band)
            for part in (out[top : top + band],)
        ]
        for job in jobs:
            job.result()
        return out


def _whiten(planes: list[np.ndarray], bits: int, out: np.ndarray) -> None:
    """Interleave planes [H, W] into `out` [H, W, 3], each sample v as v + (v >> bits), 65535 at most.

    It works on a few rows at a time, so that they stay in the processor's cache between the steps.
    """
    step = max(1, _CACHED_PIXELS // out.shape[1])
    top = np.full(
        step * out[0].size, _WHITE - (_WHITE >> bits), np.uint16
    )  # a scalar costs minimum() its SIMD
    share = np.empty_like(top)
    for row in range(0, len(out), step):
        rows = out[row : row + step]
        for channel, plane in enumerate(planes):
            rows[..., channel] = plane[row : row + step]
        if bits == 16:
            continue
        flat = rows.reshape(-1)
        np.minimum(flat, top[: flat.size], out=flat)
        flat += np.right_shift(flat, bits, out=share[: flat.size])
