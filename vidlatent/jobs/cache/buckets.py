"""Buckets: the sizes that the clips of a dataset are scaled to, so that many of them have one shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt, lcm, log

from vidlatent.errors import UsageError, parameter
from vidlatent.grid import Grid
from vidlatent.io.picture.facts import MOST_PX
from vidlatent.io.picture.resample import square_size
from vidlatent.jobs.reading.survey import Probe

Bucket = tuple[int, ...]  # width and height; and the number of frames, where that is fixed as well
USUAL_STEP = 16  # pixels: what most trainers take


@dataclass(frozen=True)
class Smaller:
    """Clips of no more pixels than `area` keep their size, each side rounded down to a multiple of `step`."""

    area: int
    step: int

    def size(self, probe: Probe) -> tuple[int, int] | None:
        """The size of such a clip, in square pixels; None for larger ones."""
        width, height = square_size(probe.width, probe.height, probe.sar)
        if width * height > self.area:
            return None
        return max(self.step, width // self.step * self.step), max(self.step, height // self.step * self.step)


@dataclass(frozen=True)
class BucketWishes:
    """What a user says of buckets: some sizes, or the area that all have, and the step of their sides."""

    given: tuple[Bucket, ...] = ()
    area: tuple[int, int] | None = None
    step: int | None = None
    upscale: bool = True

    def buckets(self, grid: Grid) -> tuple[Bucket, ...]:
        """The sizes for a model of this grid."""
        for name, sides in (
            (parameter("area"), self.area),
            *((parameter("buckets"), size) for size in self.given),
        ):
            if sides is not None and max(sides[:2]) > MOST_PX:
                asked = "x".join(map(str, sides))
                raise UsageError(f"{name} {asked}: a side has at most {MOST_PX} pixels")
        if self.area is None:
            refuse_off_grid(self.given, grid)
            return self.given
        if self.given:
            raise UsageError(
                f"{parameter('area')} makes the buckets that {parameter('buckets')} names", "leave one out"
            )
        if found := derive_buckets(self.area, self.choose_step(grid)):
            return found
        raise UsageError(f"{parameter('area')} {self.area[0]}x{self.area[1]}: holds no bucket", "raise it")

    def smaller(self, buckets: Sequence[Bucket], grid: Grid) -> Smaller | None:
        """Which clips keep their size; None where all are scaled."""
        if self.upscale:
            return None
        if not buckets:
            raise UsageError(f"{parameter('no_upscale')}: nothing is scaled", f"add {parameter('area')}")
        pixels = self.area or max((bucket[:2] for bucket in buckets), key=lambda size: size[0] * size[1])
        return Smaller(pixels[0] * pixels[1], self.choose_step(grid))

    def choose_step(self, grid: Grid) -> int:
        """The step that is wished, or else the usual one, which the model must take."""
        step = self.step or lcm(USUAL_STEP, grid.space)
        if grid.missing_pixels(step):
            low = step // grid.space * grid.space
            near = f"{low} or {low + grid.space}" if low else f"{grid.space}"
            raise UsageError(
                f"{parameter('bucket_step')} {step}: the model takes steps of {grid.space} pixels",
                f"the nearest: {near}",
            )
        return step


def derive_buckets(area: tuple[int, int], step: int) -> tuple[tuple[int, int], ...]:
    """Sizes of all shapes, in steps, whose area is that of width × height in `area` or a little less.

    The shorter sides run from half the side of a square of that area to all of it, as in musubi-tuner.
    """
    pixels = area[0] * area[1]
    side = isqrt(pixels)
    shorter = range(max(step, side // 2 // step * step), side + step, step)
    pairs = [(short, pixels // short // step * step) for short in shorter]
    return tuple(sorted({size for pair in pairs if min(pair) for size in (pair, pair[::-1])}))


def refuse_off_grid(buckets: Sequence[Bucket], grid: Grid) -> None:
    """Raise UsageError for a side that the model does not take, and name the nearest bucket it does."""
    for width, height, *_ in buckets:
        if grid.missing_pixels(width) or grid.missing_pixels(height):
            near = "x".join(str(max(grid.space, round(s / grid.space) * grid.space)) for s in (width, height))
            raise UsageError(
                f"{parameter('buckets')} {width}x{height}: the model takes sides in steps of {grid.space}",
                f"the nearest is {near}",
            )


def choose_bucket(buckets: tuple[Bucket, ...], probe: Probe) -> tuple[int, int]:
    """The size of the bucket whose aspect is nearest, by ratio, and of several such the nearest in area."""
    shape, area = probe.width * probe.sar / probe.height, probe.width * probe.height

    def distance(bucket: Bucket) -> tuple:
        width, height, *_ = bucket
        away = abs(log(Fraction(width, height) / shape)), abs(log(Fraction(width * height, area)))
        return round(away[0], 9), round(away[1], 9), bucket

    return min(buckets, key=distance)[:2]  # type: ignore[return-value]
