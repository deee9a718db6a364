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
    """One cut of the input: read [start, stop), then discard the first `drop` outputs."""

    start: int
    stop: int
    drop: int = 0


@dataclass(frozen=True)
class TimeRule:
    """How a network may be cut in time, in units of its own input (frames, or latents).

    `overlap` 0 means exact: the network carries state, any stride equals the whole clip. With an
    overlap, windows are independent clips: window i reads [i·stride, (i+1)·stride + overlap) and,
    but for the first, drops the outputs of its first `overlap` inputs. `stride` 0 means undivided.
    The first input has a latent of its own, so window 0 takes one input more than the stride even
    where nothing overlaps.
    """

    stride: int
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.stride < 0 or self.overlap < 0:
            raise ValueError(f"stride and overlap must not be negative: {self}")

    @property
    def exact(self) -> bool:
        """Whether state carries from window to window."""
        return self.overlap == 0

    @property
    def longest(self) -> int | None:
        """Inputs in the longest window; None when undivided."""
        return self.stride + max(1, self.overlap) if self.stride else None

    def windows(self, outputs: Callable[[int], int], total: int | None = None) -> Iterator[Window]:
        """The windows in order; `outputs` maps a number of inputs to the number of outputs.

        Ends when `total` inputs are covered; without a total it never ends, and whoever reads the
        input stops. A tail whose outputs are all dropped is still a window.
        """
        if not self.stride:
            if total is None:
                raise ValueError("an undivided rule needs the total")
            yield Window(0, total)
            return
        lead = max(1, self.overlap)
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


@dataclass(frozen=True)
class Tiling:
    """One axis of a frame cut into overlapping tiles, and blended back, for one direction.

    A tile starts every `step` input units and spans `size`; its output shares `blend` output units
    with its neighbour and contributes `keep`. With `slivers` the tiles start at every multiple of
    the step below the side, however little is left (OD-VAE); without, the first tile that reaches
    the border is the last (CV-VAE).
    """

    size: int
    step: int
    blend: int
    keep: int
    slivers: bool = False

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


@dataclass(frozen=True)
class Plan:
    """Everything about cutting that changes a latent or a decoded frame; stored in the file.

    Times are in frames (encode) and latent frames (decode), tilings in pixels and latents likewise;
    None as tiling means whole frames.
    """

    encode_time: TimeRule
    decode_time: TimeRule
    encode_tiles: Tiling | None = None
    decode_tiles: Tiling | None = None


def cut(
    items: Iterable[T], rule: TimeRule, outputs: Callable[[int], int]
) -> Iterator[tuple[Window, list[T], bool]]:
    """Cut a stream into the rule's windows: each with its items, and whether it is the last.

    Holds one window and one item more, which is how it knows the last without being told a total.
    """
    held: list[T] = []  # items from index `base` on
    base = seen = 0
    windows = rule.windows(outputs) if rule.stride else iter([Window(0, sys.maxsize)])
    window = next(windows)
    for item in items:
        if seen == window.stop:
            yield window, held[window.start - base :], False
            window = next(windows)
            del held[: window.start - base]
            base = window.start
        held.append(item)
        seen += 1
    if seen:
        yield replace(window, stop=seen), held[window.start - base :], True


def even_tiles(tile: int, overlap: float, space: int) -> tuple[Tiling, Tiling]:
    """Tilings of pixels and of latents whose strides agree, for models without a rule of their own.

    The overlap is rounded to whole latents.
    """
    size = tile // space
    blend = min(round(size * overlap), size - 1)
    step = size - blend
    encode = Tiling(size * space, step * space, blend, step)
    return encode, Tiling(size, step, blend * space, step * space)
