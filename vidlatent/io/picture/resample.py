"""Frame rates and sizes other than the source's: rates by timestamp, sizes by an antialiased filter."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from math import ceil, floor
from typing import TypeVar

import numpy as np

from vidlatent.errors import UsageError, parameter
from vidlatent.io.picture.gaps import Gaps
from vidlatent.io.picture.info import Picture, ReadOptions
from vidlatent.io.picture.timeline import refine

T = TypeVar("T")


@dataclass(frozen=True)
class Span:
    """The part of a clip with start <= t < end, in seconds; None leaves that side open.

    `origin` is the time of the clip's first frame, for frames that do not begin with it; None: they do.
    """

    start: Fraction | None = None
    end: Fraction | None = None
    origin: Fraction | None = None

    @classmethod
    def of(cls, options: ReadOptions, origin: Fraction | None = None) -> "Span":
        """The span that `options` ask for."""
        return cls(options.start, options.end, origin)

    def slots(self, origin: Fraction, fps: Fraction) -> tuple[int, int | None]:
        """The first slot at or after `start`, and the first at or after `end`; slot 0 is at `origin`."""
        low = 0 if self.start is None else max(0, ceil((self.start - origin) * fps))
        return low, None if self.end is None else ceil((self.end - origin) * fps)


@dataclass(frozen=True)
class Rate:
    """A constant frame rate, reached by repeating and leaving out frames according to their times.

    Slot k is shown at t0 + k/fps, where t0 is the time of the clip's first frame. Every frame belongs to the
    slot nearest to its own time (halves go up) and is repeated until the next frame's slot; of several frames
    in one slot the last is shown. The last frame is repeated for its duration, one slot at least. Of a span
    of the clip those slots are given whose own times lie in it: so spans that tile the clip tile its slots. A
    frame that would be repeated for many minutes raises UsageError; `tell` hears at the end of those that
    last long.
    """

    fps: Fraction
    tell: Callable[[str], None] = lambda notice: None

    @property
    def _per_slot(self) -> int:
        return refine(1 / self.fps)

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick of the new clock; a slot is a whole number of ticks."""
        return 1 / self.fps / self._per_slot

    def hold(
        self, timed: Iterable[tuple[T, int, int]], base: Fraction, span: Span = Span()
    ) -> Iterator[tuple[T, int, int]]:
        """(frame, pts, duration) in `base` → the same in `time_base`, one per slot of the span."""
        shown: tuple[T, int] | None = None  # a frame and its slot
        origin, end, gaps = span.origin, Fraction(0), Gaps(self.fps)
        for frame, pts, duration in timed:
            origin = pts * base if origin is None else origin
            low, high = span.slots(origin, self.fps)
            slot = floor((pts * base - origin) * self.fps + Fraction(1, 2))
            if shown is not None:
                yield from self._repeat(shown[0], gaps.note(origin, _cut(shown[1], slot, low, high)), origin)
            if high is not None and slot >= high:
                shown = None
                break
            shown, end = (frame, slot), (pts + duration) * base - origin
        if shown is not None:
            last = max(shown[1] + 1, floor(end * self.fps + Fraction(1, 2)))
            yield from self._repeat(shown[0], gaps.note(origin, _cut(shown[1], last, low, high)), origin)
        if told := gaps.describe():
            self.tell(told)

    def _repeat(self, frame: T, slots: range, origin: Fraction) -> Iterator[tuple[T, int, int]]:
        zero = round(origin / self.time_base)
        for index in slots:
            yield frame, zero + index * self._per_slot, self._per_slot


def _cut(first: int, until: int, low: int, high: int | None) -> range:
    """Those of the slots [first, until) that lie in [low, high); None leaves that side open."""
    return range(max(first, low), until if high is None else min(until, high))


def select(
    timed: Iterable[tuple[T, int, int]],
    base: Fraction,
    options: ReadOptions,
    origin: Fraction | None = None,
    tell: Callable[[str], None] = lambda notice: None,
) -> Iterator[tuple[T, int, int]]:
    """The part of `timed` (frame, pts, duration in `base`) that `options` ask for, at the rate they ask.

    `origin` is the time of the clip's first frame, where `timed` does not begin with it. `tell` hears what is
    worth a notice.
    """
    if options.fps is None:
        asked = _keep_span(timed, base, options)
    else:
        asked = Rate(options.fps, tell).hold(timed, base, Span.of(options, origin))
    return islice(asked, options.frames)


def _keep_span(
    timed: Iterable[tuple[T, int, int]], base: Fraction, options: ReadOptions
) -> Iterator[tuple[T, int, int]]:
    """Those with start <= pts < end."""
    for frame, pts, duration in timed:
        if options.end is not None and pts * base >= options.end:
            return
        if options.start is None or pts * base >= options.start:
            yield frame, pts, duration


@dataclass(frozen=True)
class Framing:
    """How displayed pixels become delivered ones: cut out `box`, scale it to `scaled`, put it on `canvas`.

    `box` is (left, top, width, height); `scaled` and `canvas` are (width, height); `sar` is the sample aspect
    of the delivered frames.
    """

    box: tuple[int, int, int, int]
    scaled: tuple[int, int]
    canvas: tuple[int, int]
    sar: Fraction

    @classmethod
    def plan(cls, size: tuple[int, int], sar: Fraction, options: ReadOptions) -> "Framing":
        """The framing of pictures of `size` and aspect `sar`; raises UsageError for impossible options."""
        left, top, width, height = options.crop or (0, 0, *size)
        if left < 0 or top < 0 or min(width, height) < 1 or left + width > size[0] or top + height > size[1]:
            asked = f"{parameter('crop')} {width}x{height}+{left}+{top}"
            raise UsageError(f"{asked}: outside the picture of {size[0]}x{size[1]}")
        box = (left, top, width, height)
        if options.size is None:
            return cls(box, (width, height), (width, height), sar)
        return _FIT[options.fit](box, sar, options.size)

    def apply(self, rgb: np.ndarray) -> np.ndarray:
        """Pixels [H, W, 3] → pixels of the same type, [height, width, 3] of the canvas."""
        left, top, width, height = self.box
        rgb = resize(rgb[top : top + height, left : left + width], self.scaled)
        if self.scaled == self.canvas:
            return np.ascontiguousarray(rgb)
        out = np.zeros((self.canvas[1], self.canvas[0], 3), rgb.dtype)
        y, x = (self.canvas[1] - self.scaled[1]) // 2, (self.canvas[0] - self.scaled[0]) // 2
        out[y : y + self.scaled[1], x : x + self.scaled[0]] = rgb
        return out


def _stretch(box: tuple[int, int, int, int], sar: Fraction, size: tuple[int, int]) -> Framing:
    """Scale the whole box to `size`; the sample aspect changes, so that it is displayed as before."""
    shape = sar * Fraction(box[2], box[3])
    return Framing(box, size, size, shape / Fraction(*size))


def _cover(box: tuple[int, int, int, int], sar: Fraction, size: tuple[int, int]) -> Framing:
    """Scale the largest middle part of the box that has the shape of `size`, in square pixels."""
    left, top, width, height = box
    shape = Fraction(*size) / sar  # stored columns per row
    kept = (min(width, round(height * shape)) or 1, min(height, round(width / shape)) or 1)
    middle = (left + (width - kept[0]) // 2, top + (height - kept[1]) // 2, *kept)
    return Framing(middle, size, size, Fraction(1))


def _pad(box: tuple[int, int, int, int], sar: Fraction, size: tuple[int, int]) -> Framing:
    """Scale the whole box as large as `size` allows, in square pixels, with black around it."""
    shape = sar * Fraction(box[2], box[3])
    scaled = (min(size[0], round(size[1] * shape)) or 1, min(size[1], round(size[0] / shape)) or 1)
    return Framing(box, scaled, size, Fraction(1))


_FIT = {"stretch": _stretch, "crop": _cover, "pad": _pad}


def square_size(width: int, height: int, sar: Fraction) -> tuple[int, int]:
    """The size in square pixels that is displayed as before; neither side becomes smaller."""
    return (round(width * sar), height) if sar >= 1 else (width, round(height / sar))


def to_square_pixels(picture: Picture) -> Picture:
    """The facts of `picture` once its frames are scaled to square pixels."""
    width, height = square_size(picture.width, picture.height, picture.sar)
    return replace(picture, width=width, height=height, sar=Fraction(1))


def resize(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """RGB [H, W, 3] scaled to `size` (width, height), antialiased.

    Bicubic (Keys, a = -0.5), its support widened by the scale where it shrinks: the convolution that Pillow's
    BICUBIC and torchvision's antialiased resize compute, on the coded values, rounded half up.
    """
    if (rgb.shape[1], rgb.shape[0]) == size:
        return rgb
    import torch
    from torch.nn.functional import interpolate

    top = np.iinfo(rgb.dtype).max
    picture = torch.from_numpy(rgb.astype(np.float32)).permute(2, 0, 1)[None]  # [1, 3, H, W]
    scaled = interpolate(picture, size=(size[1], size[0]), mode="bicubic", antialias=True)
    return scaled[0].permute(1, 2, 0).add(0.5).floor().clamp(0, top).numpy().astype(rgb.dtype)
