"""The frames of a `.latent`, one by one: decoded in this process, or in segments by several."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from torch import Tensor

from vidlatent.engine import pixels
from vidlatent.engine.access import Access
from vidlatent.engine.model import Model
from vidlatent.engine.scratch import Scratch
from vidlatent.engine.tilewise import Again, Tilewise
from vidlatent.io.latent.reader import LatentReader
from vidlatent.io.write.sink import STDOUT
from vidlatent.jobs.segments import Pool, Task, Workers, choose_length, keep_segments, read_items
from vidlatent.models.horizon import latent_of
from vidlatent.prefetch import prefetch
from vidlatent.windows import Plan

READ_LATENTS, READ_BYTES = 16, 8 << 20  # latent frames read from the file at once, where they are no larger
WRITE_AHEAD_FRAMES, WRITE_AHEAD_BYTES = 16, 32 << 20  # decoded frames that may wait for the codec


def decode_frames(
    source: LatentReader,
    model: Model,
    plan: Plan,
    span: tuple[int, int],
    scratch: Scratch | None = None,
    watch: Callable[[Iterator[Tensor]], Iterator[Tensor]] = iter,
) -> Iterator[np.ndarray]:
    """Frames [first, last) = `span` of the clip, one by one: [H, W, 3] uint8, or uint16 as a deep source.

    With `scratch` the tiles go through the clip one by one, and their results wait there. `watch` sees the
    latents pass by.
    """
    header, (first, last) = source.header, span
    grid, access = model.spec.grid, Access.to_decoder(model, plan, *source.shape[2:])
    begin = access.begin(latent_of(grid, first), source.frames)
    n = grid.frames(begin + 1) - grid.head  # the clip's number of the first frame that comes
    size = (header.source.height, header.source.width)
    dtype = np.uint16 if header.picture["bit_depth"] > 8 else np.uint8
    latents = Again(lambda: watch(read_latents(source, begin)))
    tilewise = scratch and Tilewise(scratch, last - n)
    windows = model.decode_stream(latents, plan, source.frames - begin, tilewise, begin)
    frames = round_frames(windows, (first - n, last - n), size, dtype)
    depth = min(WRITE_AHEAD_FRAMES, max(1, WRITE_AHEAD_BYTES // (3 * size[0] * size[1] * dtype().itemsize)))
    with closing(prefetch(frames, depth)) as ahead:  # the network runs while this thread writes
        yield from ahead


def decode_in_segments(
    source: LatentReader,
    model: Model,
    plan: Plan,
    span: tuple[int, int],
    workers: Workers,
    target: Path | str,
) -> Iterator[np.ndarray]:
    """What `decode_frames` gives, made by several processes."""
    grid, (first, last) = model.spec.grid, span
    access = Access.to_decoder(model, plan, *source.shape[2:])
    latents = latent_of(grid, last - 1) + 1 - latent_of(grid, first)
    length = choose_length(access, len(workers.devices), latents)
    numbers = range(latent_of(grid, first) // length, latent_of(grid, last - 1) // length + 1)
    with keep_segments(None if str(target) == STDOUT else Path(target)) as folder:
        task = Task(source.path, folder, plan, length, span=span, part=source.part)
        with Pool(task, workers, model) as pool:
            for done, path in pool.segments(numbers):
                for frames in read_items(done, path):
                    yield from frames


def round_frames(
    windows: Iterator[Tensor], span: tuple[int, int], size: tuple[int, int], dtype: type
) -> Iterator[np.ndarray]:
    """Frames [first, last) = `span` of decoded windows [1, 3, T, H, W].

    Here each is rounded when it is asked for. A device that works apart is given the next window before the
    host waits for this one, and never waits for the host.
    """
    leaving: deque[pixels.Leaving] = deque()
    for video in within(windows, span):
        if not pixels.works_apart(video.device):
            for i in range(video.shape[2]):
                yield pixels.to_frames(video[:, :, i : i + 1], *size, dtype)[0]
        else:
            leaving.append(pixels.Leaving(video, *size, dtype))
        del video  # the next window's floats do not stand beside this one's
        if len(leaving) > 1:
            yield from leaving.popleft().frames()
    while leaving:
        yield from leaving.popleft().frames()


def within(windows: Iterator[Tensor], span: tuple[int, int]) -> Iterator[Tensor]:
    """What of windows [1, 3, T, H, W] lies in frames [first, last) = `span`; none is made beyond."""
    n, (first, last) = 0, span
    for video in windows:
        low, high = max(first - n, 0), min(last - n, video.shape[2])
        n += video.shape[2]
        if low < high:
            yield video[:, :, low:high]
        del video
        if n >= last:
            return


def read_latents(source: LatentReader, begin: int) -> Iterator[Tensor]:
    """The latents [1, C, h, w] of every latent frame from `begin` on."""
    count = min(READ_LATENTS, max(1, READ_BYTES // (4 * math.prod(source.shape[1:]))))
    for start in range(begin, source.frames, count):
        yield from source.read_checked(start, min(start + count, source.frames)).split(1)
