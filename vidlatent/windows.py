"""Plans, in integers only: how a clip is cut in time, and a frame in space, and put together again.

Nothing here knows a tensor or a network. A plan is part of a latent's identity for networks whose
normalisation looks at the whole window, so it is written into the file that holds the latents.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Window:
    """One cut of the input: read [start, stop), then discard the first `drop` outputs.

    Of what is left the first `keep` are final (None: all); the rest waits to be blended with the next window.
    """

    start: int
    stop: int
    drop: int = 0
    keep: int | None = None

    def moved(self, by: int) -> "Window":
        """The same window of a clip that has `by` inputs more before."""
        return replace(self, start=self.start + by, stop=self.stop + by)


@dataclass(frozen=True)
class TimeRule:
    """How a network may be cut in time, in units of its own input (frames, or latents).

    `stride` is how many inputs each window adds; 0 means undivided. There are four rules:

    * exact: nothing overlaps, the network carries state, and any stride equals the whole clip;
    * carried `batches`: state carries, but norms look at one batch of `stride` inputs at a time, so the
      stride is part of the codec;
    * windows: they are independent clips. Window i reads [i·stride, (i+1)·stride + overlap) and, but for
      the first, drops the outputs of its first `overlap` inputs;
    * blended windows: of those outputs the last `blend` are not dropped, but mixed with the last outputs
      of the window before. A clip shorter than the longest window is not cut.

    The first input has a latent of its own, so window 0 takes one input more than the stride even
    where nothing overlaps. A batch rule that knows the length of the clip lets the first batch take the
    remainder instead, as CogVideoX does.

    `past` is how many latents a network whose state grows may look back; 0 is as far as the clip goes.
    """

    stride: int
    overlap: int = 0
    blend: int = 0
    batches: bool = False
    past: int = 0

    def __post_init__(self) -> None:
        if min(self.stride, self.overlap, self.blend, self.past) < 0:
            raise ValueError(f"stride, overlap, blend and past must not be negative: {self}")
        if (self.overlap and self.batches) or (self.blend and not self.overlap):
            raise ValueError(f"batches do not overlap, and only what overlaps can be blended: {self}")

    @property
    def carries(self) -> bool:
        """Whether state goes from one window to the next."""
        return not self.overlap

    @property
    def exact(self) -> bool:
        """Whether any stride gives the same as the whole clip."""
        return self.carries and not self.batches

    @property
    def longest(self) -> int | None:
        """Inputs in the longest window, as far as the rule alone knows; None when undivided."""
        if not self.stride:
            return None
        return 2 * self.stride - 1 if self.batches else self.stride + max(1, self.overlap)

    def missing(self, inputs: int, step: int) -> int:
        """How many inputs must be added to a clip of `inputs` so that it fills the last window's outputs.

        `step` is how many inputs make an output; batches of a clip whose length was not known must be full.
        """
        return -(inputs - 1) % (self.stride if self.batches and self.stride else step) if inputs > 0 else 0

    def windows(self, outputs: Callable[[int], int], total: int | None = None) -> Iterator[Window]:
        """The windows in order; `outputs` maps a number of inputs to the number of outputs.

        Ends when `total` inputs are covered; without a total it never ends, and whoever reads the
        input stops. A tail whose outputs are all dropped is still a window, but not where windows are
        blended: there a window may bring no new input and still change outputs, or change nothing.
        """
        if not self.stride:
            if total is None:
                raise ValueError("an undivided rule needs the total")
            yield Window(0, total)
        elif self.blend:
            yield from self._blended(outputs, total)
        else:
            yield from self._independent(outputs, total)

    def _independent(self, outputs: Callable[[int], int], total: int | None) -> Iterator[Window]:
        lead = max(1, self.overlap)
        if self.batches and total is not None:
            lead = total % self.stride if total >= self.stride else 0
        drop = outputs(self.overlap)
        for i in count():
            fresh = 0 if i == 0 else i * self.stride + lead
            if total is not None and (fresh >= total):
                return
            stop = (i + 1) * self.stride + lead
            yield Window(
                start=0 if i == 0 else fresh - self.overlap,
                stop=stop if total is None else min(stop, total),
                drop=0 if i == 0 else drop,
            )

    def _blended(self, outputs: Callable[[int], int], total: int | None) -> Iterator[Window]:
        drop = outputs(self.overlap) - self.blend
        step = outputs(self.stride + 1) - 1
        for i in count():
            start = i * self.stride
            if i and total is not None and (total < self.longest or outputs(max(0, total - start)) <= drop):
                return
            stop = start + self.stride + self.overlap
            yield Window(
                start=start,
                stop=stop if total is None else min(stop, total),
                drop=drop if i else 0,
                keep=step if i else step + drop,
            )


@dataclass(frozen=True)
class Tiling:
    """One axis of a frame cut into overlapping tiles, and blended back, for one direction.

    A tile starts every `step` input units and spans `size`; its output shares `blend` output units
    with its neighbour and contributes `keep`. With `slivers` the tiles start at every multiple of
    the step below the side, however little is left (OD-VAE); without, the first tile that reaches
    the border is the last (CV-VAE). Frames whose sides are both within `whole` input units are not cut
    at all; where it is None, rules with slivers spare only clips of a single window that fit one tile.
    `grain` output units in a row share one weight of the blend (Wan 2.2 blends pixels folded by two).
    """

    size: int
    step: int
    blend: int
    keep: int
    slivers: bool = False
    whole: int | None = None
    grain: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.step <= self.size:
            raise ValueError(f"a tile must advance, and not past its own end: {self}")

    def spans(self, side: int) -> list[tuple[int, int]]:
        """[start, stop) of every tile along a side of `side` units."""
        spans = []
        for start in range(0, side, self.step):
            spans.append((start, min(start + self.size, side)))
            if not self.slivers and start + self.size >= side:
                break
        return spans


Tiles = tuple[Tiling, Tiling]  # of rows, and of columns


@dataclass(frozen=True)
class Plan:
    """Everything about cutting that changes a latent or a decoded frame; stored in the file.

    Times are in frames (encode) and latent frames (decode), tilings in pixels and latents likewise;
    None as tiling means whole frames. Columns are cut as rows are, unless a tiling of their own is given.
    """

    encode_time: TimeRule
    decode_time: TimeRule
    encode_tiles: Tiling | None = None
    decode_tiles: Tiling | None = None
    encode_columns: Tiling | None = None
    decode_columns: Tiling | None = None

    def tiled_as(self, other: "Plan") -> "Plan":
        """This plan in time, with frames cut as `other` cuts them."""
        tilings = ("encode_tiles", "decode_tiles", "encode_columns", "decode_columns")
        return replace(self, **{name: getattr(other, name) for name in tilings})

    @property
    def tiles_to_encode(self) -> Tiles | None:
        """How frames are cut on the way in: rows and columns; None: not at all."""
        return self.encode_tiles and (self.encode_tiles, self.encode_columns or self.encode_tiles)

    @property
    def tiles_to_decode(self) -> Tiles | None:
        """How latent frames are cut on the way out: rows and columns; None: not at all."""
        return self.decode_tiles and (self.decode_tiles, self.decode_columns or self.decode_tiles)


def cut(
    items: Iterable[T],
    rule: TimeRule,
    outputs: Callable[[int], int],
    total: int | None = None,
    start: int = 0,
) -> Iterator[tuple[Window, list[T], bool]]:
    """Cut a stream into the rule's windows: each with its items, and whether it is the last.

    Holds one window and one item more, which is how it knows the last without being told a total. Only a
    rule of batches makes use of `total`, the number of items; it must then be right. `start` is the number of
    the first item in the clip that it is a part of: a part is cut as a clip of its own, but its windows say
    where they are in the whole clip.
    """
    held: list[T] = []  # items from index `base` on
    base = seen = 0
    known = total if rule.batches else None
    windows = rule.windows(outputs, known) if rule.stride else iter([Window(0, sys.maxsize)])
    window = next(windows)
    for item in items:
        if seen == window.stop:
            yield window.moved(start), held[window.start - base :], False
            window = next(windows)
            del held[: window.start - base]
            base = window.start
        held.append(item)
        seen += 1
    if not seen:
        return
    left = [w for w in rule.windows(outputs, seen) if w.start > window.start] if rule.blend else []
    yield replace(window, stop=seen).moved(start), held[window.start - base :], not left
    for n, window in enumerate(left, start=1):
        yield window.moved(start), held[window.start - base :], n == len(left)


def even_tiles(tile: int, overlap: float, space: int, slivers: bool = False) -> tuple[Tiling, Tiling]:
    """Tilings of pixels and of latents whose strides agree; the overlap is rounded to whole latents.

    With `slivers`, frames that fit one tile are not cut, and others at every step however little is left: so
    do the tilings of diffusers. Without, for models that have no rule of their own, the first tile that
    reaches the border is the last.
    """
    size = tile // space
    blend = min(round(size * overlap), size - 1)
    step = size - blend
    ends = {"slivers": True, "whole": size * space} if slivers else {}
    encode = Tiling(size * space, step * space, blend, step, **ends)
    if slivers:
        ends["whole"] = size
    return encode, Tiling(size, step, blend * space, step * space, **ends)
