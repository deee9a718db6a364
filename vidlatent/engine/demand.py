"""What a clip needs on its way through a network, cut by a plan: a promise, made before the first frame."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from math import ceil

from vidlatent.engine.footprint import Call, Footprint, Network, footprint
from vidlatent.engine.model import Model
from vidlatent.engine.plan import suited
from vidlatent.engine.stream import goes_whole
from vidlatent.grid import Grid
from vidlatent.windows import Plan, Tiles, TimeRule

MARGIN = 1.25  # convolution workspaces and the allocator's rounding, measured at up to 1.2
FLOAT_BYTES = 4  # what comes out of a network becomes float32
PIXEL_BYTES = 2  # a frame that waits to be converted, 8 or 16 bits deep


class UnknownLength(Exception):
    """Nobody knows how long a clip is that must go through in one piece."""


@dataclass(frozen=True)
class Workload:
    """What is to go through a network: `frames` (None: nobody knows how many) of a size, and which way.

    `rereadable` says that its source can be read from the beginning as often as wanted.
    """

    height: int
    width: int
    frames: int | None = None
    encode: bool = True
    rereadable: bool = False

    def inputs(self, grid: Grid) -> tuple[int, int, int | None]:
        """Height, width and length of what the network is given: padded frames, or latents."""
        height, width = (side + grid.missing_pixels(side) for side in (self.height, self.width))
        frames = self.frames and self.frames + grid.missing_frames(self.frames)
        if self.encode:
            return height, width, frames
        return height // grid.space, width // grid.space, frames and grid.latents(frames)


@dataclass(frozen=True)
class Demand:
    """Bytes that one window of a clip, and one of its tiles, take.

    `window` is what goes in; of each tile `work` is there while it is computed, `state` between windows, and
    `out` when it is done; `whole` is what comes out in all, and `kept` what of that stands beside the next
    step. `passes` is how many tiles there are, and `tiles` how many of full size they amount to.
    """

    window: int
    work: int
    state: int
    out: int
    whole: int
    kept: int
    passes: int
    tiles: float

    @property
    def by_window(self) -> int:
        """The peak when all tiles of a window go through, then those of the next."""
        if self.passes == 1:
            return self.window + self.state + self.work + self.kept
        held = self.window + self.kept + ceil(self.tiles * (self.state + self.out))
        return held + max(self.work, 2 * self.whole)  # blended: rows of tiles, and all rows

    @property
    def by_tile(self) -> int:
        """The peak when all windows of a tile go through, then those of the next; see `tilewise`."""
        if self.passes == 1:
            return self.by_window
        passing = self.window + self.state + self.work + self.out
        return max(passing, ceil(self.tiles * self.out) + 2 * self.whole)


def demand(model: Model, plan: Plan, work: Workload, trace: Callable[..., Footprint] = footprint) -> Demand:
    """What the clip needs when it is cut as the engine will cut it; raises UnknownLength.

    `trace` says, as `footprint` does, what a tile takes in the network.
    """
    spec, itemsize = model.spec, model.runtime.dtype.itemsize
    plan = suited(plan, spec, work.height, work.width, model.runtime.on_gpu)
    height, width, total = work.inputs(spec.grid)
    if work.encode:
        rule, tiles, outputs = plan.encode_time, plan.tiles_to_encode, spec.grid.latents
        pixel_in, pixel_out = (
            3 * (itemsize + PIXEL_BYTES),
            2 * spec.channels * FLOAT_BYTES / spec.grid.space**2,
        )
    else:
        rule, tiles, outputs = plan.decode_time, plan.tiles_to_decode, spec.grid.frames
        pixel_in, pixel_out = spec.channels * itemsize, 3 * FLOAT_BYTES * spec.grid.space**2
    step = outputs(rule.stride + 1) - 1 if work.encode else rule.stride  # latents of a window
    calls = calls_of(rule, outputs, total)
    rows, columns = spans(tiles, height, width, only_window=len(calls) == 1)
    found = trace(Network.of(model, work.encode), calls, max(rows), max(columns), rule.past)
    longest = max(frames for frames, _ in calls)
    results, area = pixel_out * outputs(longest), max(rows) * max(columns)
    kept = 2 if rule.blend else int(itemsize != FLOAT_BYTES)  # what waits and what is joined; a cast piece
    return Demand(
        window=longest * pixel_in * height * width,
        work=round(MARGIN * found.work),
        state=found.state + _growth(found, rule, step, total),
        out=ceil(results * area),
        whole=ceil(results * height * width),
        kept=ceil(kept * results * height * width),
        passes=len(rows) * len(columns),
        tiles=sum(rows) * sum(columns) / area,
    )


def calls_of(rule: TimeRule, outputs: Callable[[int], int], total: int | None) -> tuple[Call, ...]:
    """Calls of a network that take as much memory as all those that a clip is cut into.

    Where state is carried these are the first two, else one of the longest.
    """
    if not rule.stride and total is None:
        raise UnknownLength
    lengths = [window.stop - window.start for window in islice(rule.windows(outputs, total), 3)]
    if not rule.carries:
        return ((max(lengths), False),)
    return tuple((length, n < len(lengths)) for n, length in enumerate(lengths[:2], start=1))


def spans(tiles: Tiles | None, height: int, width: int, only_window: bool) -> tuple[list[int], list[int]]:
    """The heights and the widths of the tiles that frames are cut into."""
    if goes_whole(tiles, height, width, only_window):
        return [height], [width]
    rows, columns = (tiling.spans(side) for tiling, side in zip(tiles, (height, width), strict=True))
    return [stop - start for start, stop in rows], [stop - start for start, stop in columns]


def _growth(found: Footprint, rule: TimeRule, step: int, total: int | None) -> int:
    """Bytes that state grows by after what was traced.

    `step` is how many latents each window adds; a rule may say how many of them a network looks back.
    """
    if not found.growth or total is None:
        return 0
    windows = ceil(total / rule.stride)
    if rule.past:
        windows = min(windows, ceil(rule.past / step))
    return found.growth * max(0, windows - 2)
