"""What is to be made of every clip of a dataset, and of one clip in particular."""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil, log

from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.encode import EncodeOptions
from vidlatent.jobs.reading.survey import Probe
from vidlatent.windows import Plan


@dataclass(frozen=True)
class Recipe:
    """How clips become latents. `plan` is followed to the letter, whatever memory there is.

    `buckets` are sizes (width, height): each clip is cropped and scaled to the one whose shape is nearest.
    With `chunk_s` long videos are cut into clips of so many seconds.
    """

    plan: Plan
    read: ReadOptions = field(default_factory=ReadOptions)
    posterior: str = "mode"
    seed: int = 0
    store: str | None = None
    buckets: tuple[tuple[int, int], ...] = ()
    chunk_s: Fraction | None = None

    def options(self) -> EncodeOptions:
        """The same for the encode job; a cache holds no sound."""
        return EncodeOptions(self.read, self.plan, self.posterior, self.seed, self.store, audio=False)


def adapt_to_clip(recipe: Recipe, probe: Probe | None) -> Recipe:
    """The recipe of one clip, with the bucket that suits it as its size."""
    if not recipe.buckets or probe is None:
        return recipe
    size = choose_bucket(recipe.buckets, probe)
    return replace(recipe, read=replace(recipe.read, size=size, fit="crop"))


def choose_bucket(buckets: tuple[tuple[int, int], ...], probe: Probe) -> tuple[int, int]:
    """The bucket whose aspect is nearest, by ratio, and of several such the nearest in area."""
    shape, area = probe.width * probe.sar / probe.height, probe.width * probe.height

    def distance(bucket: tuple[int, int]) -> tuple:
        width, height = bucket
        away = abs(log(Fraction(width, height) / shape)), abs(log(Fraction(width * height, area)))
        return round(away[0], 9), round(away[1], 9), bucket

    return min(buckets, key=distance)


def cut_into_spans(recipe: Recipe, probe: Probe | None) -> list[tuple[Fraction | None, Fraction | None]]:
    """[start, end) in seconds of every clip of a video; the outer ends are None, so no frame is lost."""
    read, length = recipe.read, recipe.chunk_s
    if length is None or probe is None or probe.duration_s is None:
        return [(read.start, read.end)]
    first = probe.first_s or Fraction(0)
    begin = first if read.start is None else max(first, read.start)
    end = first + probe.duration_s if read.end is None else min(first + probe.duration_s, read.end)
    last_frame = end - (1 / probe.rate if probe.rate else 0)  # where a clip begins, at the latest
    count = max(1, ceil((last_frame - begin) / length)) if last_frame > begin else 1
    cuts = [begin + k * length for k in range(1, count)]
    return list(zip([read.start, *cuts], [*cuts, read.end], strict=True))
