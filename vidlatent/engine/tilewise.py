"""One tile through all of a clip, then the next: the order that holds the state of a single tile.

What comes out is what `stream` gives, bit for bit. What a tile gives waits on disk until the last tile is
through; then they are put together window by window.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from vidlatent.engine.scratch import Scratch
from vidlatent.engine.stream import has_frames
from vidlatent.engine.tiles import Apply, blended, in_float32
from vidlatent.errors import BadInput
from vidlatent.models.causal import TimeState, whole
from vidlatent.windows import Tiles, TimeRule, Window

T = TypeVar("T")
Cuts = Iterator[tuple[Window, list[T], bool]]  # the windows of a clip; see `windows.cut`


@dataclass(frozen=True)
class Tilewise:
    """That tiles go through a clip one by one: where results wait, and how many are wanted (None: all)."""

    scratch: Scratch
    outputs: int | None = None


class Again(Generic[T]):
    """A stream that every `iter` begins anew, as `begin` says."""

    def __init__(self, begin: Callable[[], Iterator[T]]) -> None:
        self._begin = begin

    def __iter__(self) -> Iterator[T]:
        return self._begin()


@dataclass
class Passage:
    """A tile that went through the clip: how much it saw and gave, and the numbers of what waits of it."""

    inputs: int = 0
    outputs: int = 0
    numbers: list[int] = field(default_factory=list)


class TileByTile:
    """Sends tile after tile through a clip; takes what `stream` takes, of a rule that carries state."""

    def __init__(
        self,
        apply: Apply,
        join: Callable[[list[T]], Tensor],
        rule: TimeRule,
        tiles: Tiles,
        how: Tilewise,
    ) -> None:
        self._apply, self._join, self._past, self._tiles, self._how = apply, join, rule.past, tiles, how
        self._done: list[Passage] = []
        self._corners: list[tuple[slice, slice]] = []
        self._device = torch.device("cpu")

    def through(self, passes: Iterator[Cuts]) -> Iterator[Tensor]:
        """Yield what `stream` yields of the clip, whose windows each of `passes` gives anew."""
        scratch = self._how.scratch
        for cuts in passes:
            with closing(cuts):
                self._done.append(self._pass_through(cuts))
            if self._done[-1].inputs != self._done[0].inputs:
                seen = f"{self._done[0].inputs} frames at first, then {self._done[-1].inputs}"
                raise BadInput(f"the source changed while it was read: {seen}", "leave it alone meanwhile")
            missing = len(self._corners) - len(self._done)
            if not missing:
                break
            scratch.expect(missing * scratch.nbytes // len(self._done))
        for numbers in zip(*(tile.numbers for tile in self._done), strict=True):
            yield from filter(has_frames, [self._put_together(numbers)])

    def _pass_through(self, cuts: Cuts) -> Passage:
        """Send the next tile through the windows of the clip."""
        passage, state = Passage(), TimeState(past=self._past)
        for window, items, last in cuts:
            x = self._join(items)
            self._corners, self._device, state.more = corners(self._tiles, x), x.device, not last
            rows, columns = self._corners[len(self._done)]
            y = whole(in_float32(self._apply, x[..., rows, columns], state))
            passage.numbers.append(self._how.scratch.put(y))
            passage.inputs = window.stop
            passage.outputs += y.shape[2]
            if passage.outputs >= (self._how.outputs or sys.maxsize):
                break
            del x, y, items  # the next window does not stand beside this one
        return passage

    def _put_together(self, numbers: tuple[int, ...]) -> Tensor:
        """One window of all tiles, blended."""
        got = [self._how.scratch.get(number).to(self._device) for number in numbers]
        columns = len({columns.start for _, columns in self._corners})
        return blended([got[i : i + columns] for i in range(0, len(got), columns)], *self._tiles)


def corners(tiles: Tiles, x: Tensor) -> list[tuple[slice, slice]]:
    """Rows and columns of every tile of [B, C, T, H, W], in raster order."""
    rows, columns = (tiling.spans(side) for tiling, side in zip(tiles, x.shape[-2:], strict=True))
    return [(slice(*row), slice(*column)) for row in rows for column in columns]
