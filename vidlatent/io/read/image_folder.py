"""Reads a folder of images as a video."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Self

from vidlatent.errors import BadVideo, parameter
from vidlatent.io.picture import facts
from vidlatent.io.picture.info import Frame, ReadOptions
from vidlatent.io.picture.resample import Rate, select
from vidlatent.io.read.libav import LibavSource
from vidlatent.io.sources.disk import DiskSource

FILM_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".mpg"}
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".exr", ".dpx", ".jp2"}
TIMES_FILE = (
    "timestamps.json"  # written by our own sink: {"time_base": "1/600", "pts": [...], "durations": [...]}
)
DEFAULT_RATE = Fraction(25)
_MOST_TICKS = (1 << 62) - 1  # as in a `.latent`
_TICKS = 1000  # per image, where images carry no time


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """A sorting key that puts img2 before img10."""
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(part)) if part.isdigit() else (1, part.lower()) for part in parts]


def is_image(path: Path) -> bool:
    """Whether a file of a folder is one of its frames, and not hidden: macOS keeps `._NAME` beside NAME."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def find_gap(images: Sequence[Path]) -> str | None:
    """A notice where the numbers of images leap further than elsewhere, as where files were lost."""
    found = [re.fullmatch(r"(.*?)(\d{1,18})", path.stem) for path in images]
    if len(images) < 3 or not all(found) or len({match[1] for match in found if match}) > 1:
        return None
    numbers = [int(match[2]) for match in found if match]
    steps = Counter(after - before for before, after in pairwise(numbers))
    usual = min(steps, key=lambda step: (-steps[step], step))
    leaps = [n for n, (before, after) in enumerate(pairwise(numbers)) if usual > 0 and after - before > usual]
    if not leaps:
        return None
    missing = sum((numbers[n + 1] - numbers[n] - 1) // usual for n in leaps)
    first = f"{images[leaps[0]].name} and {images[leaps[0] + 1].name}"
    return f"{missing} numbers are missing, the first between {first}: shown as if no image were"


def _explain_no_images(folder: Path) -> BadVideo:
    """The error about a folder without images; it may hold videos, which are encoded one by one."""
    known = f"known are {', '.join(sorted(SUFFIXES))}"
    others = sorted(path for path in folder.iterdir() if path.suffix.lower() in FILM_SUFFIXES)
    if not others:
        return BadVideo(f"{folder}: no images in this folder", known)
    return BadVideo(
        f"{folder}: a folder of videos ({others[0].name}), and not of the images of one",
        f"name them, {folder}/*{others[0].suffix} -o DIR/, or: vidlatent cache {folder} -o CACHE/",
    )


class ImageFolder:
    """A VideoSource over the images of a folder in natural order.

    Their times come from `timestamps.json` if the folder has one, else from `ReadOptions.fps`, else there are
    25 per second.
    """

    def __init__(self, folder: Path, options: ReadOptions) -> None:
        images = sorted((p for p in folder.iterdir() if is_image(p)), key=natural_key)
        if not images:
            raise _explain_no_images(folder)
        self._folder = folder
        self._images = images
        timed = (folder / TIMES_FILE).exists()
        # Without timestamps `fps` says when images are shown; with them it resamples.
        self._select = options if timed else replace(options, fps=None)
        self._options = replace(options, start=None, end=None, frames=None, fps=None)
        self.notices: list[str] = []
        if gap := find_gap(images):
            self.notices.append(gap)
        self._base, self._pts, self._durations = self._times(options.fps)
        fps = self._select.fps
        with LibavSource(DiskSource(images[0]), self._options) as first:
            self.notices += first.notices
            self.info = replace(
                first.info,
                path=str(folder),
                container="images",
                time_base=Rate(fps).time_base if fps else self._base,
                average_rate=fps or self._average_rate(),
                header_frames=len(images),
                header_duration=None,
                counted_frames=sum(1 for _ in self._timed()),
            )

    def _times(self, fps: Fraction | None) -> tuple[Fraction, list[int], list[int]]:
        if (self._folder / TIMES_FILE).exists():
            return read_times(self._folder / TIMES_FILE, len(self._images))
        if fps is None:
            self.notices.append(f"images carry no time, assumed: {DEFAULT_RATE} per second")
        rate, count = self._bound(fps or DEFAULT_RATE), len(self._images)
        return 1 / rate / _TICKS, [i * _TICKS for i in range(count)], [_TICKS] * count

    def _bound(self, rate: Fraction) -> Fraction:
        """A rate whose clock can be stated: `rate` itself, or the nearest with a denominator up to 1001."""
        base = 1 / rate / _TICKS
        if max(base.numerator, base.denominator) <= facts.MOST_TERM:
            return rate
        near = rate.limit_denominator(1001)
        self.notices.append(f"{float(rate):.10g} images per second taken as {near}")
        return near

    def _average_rate(self) -> Fraction:
        return len(self._images) / ((self._pts[-1] - self._pts[0] + self._durations[-1]) * self._base)

    def _timed(self) -> Iterator[tuple[Path, int, int]]:
        """Image, pts and duration of each frame to deliver."""
        timed = zip(self._images, self._pts, self._durations, strict=True)
        return select(timed, self._base, self._select)

    def frames(self) -> Iterator[Frame]:
        """One frame per image; raises BadVideo where one cannot be read or differs in size."""
        for image, pts, duration in self._timed():
            with LibavSource(DiskSource(image), self._options) as source:
                self._refuse_other_size(image, source)
                yield replace(next(source.frames()), pts=pts, duration=duration)

    def _refuse_other_size(self, image: Path, source: LibavSource) -> None:
        expected, got = ((i.width, i.height, i.deep) for i in (self.info, source.info))
        if got != expected:
            text = [f"{w}x{h}, {16 if deep else 8} bit" for w, h, deep in (expected, got)]
            raise BadVideo(f"{image}: expected {text[0]} as in the first image, got {text[1]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


def read_times(path: Path, count: int) -> tuple[Fraction, list[int], list[int]]:
    """Read time base, pts and durations of a `timestamps.json`; BadVideo unless it fits `count` images."""
    try:
        data = facts.table(json.loads(path.read_text(encoding="utf-8")), "the file")
        time_base = facts.ratio(facts.member(data, "time_base", "the file"), "time_base")
        pts = [facts.integer(tick, "pts", -_MOST_TICKS, _MOST_TICKS) for tick in data["pts"]]
        durations = [facts.integer(tick, "durations", 0, _MOST_TICKS) for tick in data["durations"]]
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise BadVideo(
            f"{path}: not a list of timestamps ({e})", f"remove it to read the images by {parameter('fps')}"
        ) from e
    if not (len(pts) == len(durations) == count):
        raise BadVideo(f"{path}: expected {count} timestamps, one per image, got {len(pts)}")
    if any(b <= a for a, b in pairwise(pts)):
        raise BadVideo(f"{path}: timestamps must be whole and increase")
    return time_base, pts, durations
