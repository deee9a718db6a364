"""What the next latents of a clip may be: a guess at each, and at how far off it is, from those before it.

Latents are whole numbers here. They come frame by frame, and in a frame channel by channel, so that a plane
[h, w] is guessed at once. The guess is a weighted sum of the channels before it at the same place, of
channels of the frame before, and of the neighbours of its own channel there. What those guesses were off by,
weighted in the same way, says how far off this one will be. The first frame of a chunk knows no frame before.

All sums are of whole numbers and stay below 2^24, which float32 holds exactly in whatever order they are
added: 40 weights of at most 128 times numbers below 2^11 + 2^8. So every machine makes the same guesses.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

MOST = 2047  # of a number that is coded, of a guess, and of what it is off by in eighths
BEFORE, AROUND = 15, 16  # as many channels are looked at: of the same frame, of the frame before
NEIGHBOURS = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
GUESS_POINTS, SPREAD_POINTS = (5, 6), (2, 4)  # bits behind the point of weights, of first frames and others
LARGEST_WEIGHT = 127
CONSTANT = 32  # what the first weight of a spread is of
VALUES_PER_WEIGHT = 64
_EIGHTHS = 3  # a guess is in eighths

PIECE = 512  # numbers of a plane that are multiplied at once: BLAS would ask other threads to help with more
TOGETHER = 16  # channels whose looks at the frame before are one product of matrices

Resolve = Callable[[int, int, np.ndarray, np.ndarray], np.ndarray]
Back = tuple[slice, slice, np.ndarray]  # channels; those they look at; weights [2, channels, those]


@dataclass(frozen=True)
class Taps:
    """How many channels are looked at.

    `before` are of the same frame, those before this one; `around` of the frame before, this one among them.
    """

    before: int
    around: int

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Weights of guess and spread in the first frame of a chunk, and in the others, as they lie."""
        back = self.before + self.around
        return self.before, 1 + self.before, back + len(NEIGHBOURS), 1 + back + 1

    def first_around(self, c: int, channels: int) -> int:
        """The first of the channels of the frame before that channel `c` looks at."""
        return min(max(0, c - self.around // 2), channels - self.around)


def choose_taps(shape: tuple[int, ...]) -> Taps:
    """So many taps that the weights of latents [t, C, h, w] stay small beside them."""
    channels, values = shape[1], prod(shape)
    before, around = min(BEFORE, channels - 1), min(AROUND, channels)
    while around > 1 and channels * sum(Taps(before, around).counts) > values // VALUES_PER_WEIGHT:
        before, around = before // 2, around // 2
    return Taps(before, around)


class Predictor:
    """Guesses by `weights`, int8 [C, sum of the taps' counts].

    Guesses and spreads share calls where they can, because for a small plane a call takes longer than its
    numbers do.
    """

    def __init__(self, taps: Taps, weights: np.ndarray) -> None:
        parts = np.split(weights.astype(np.float32), np.cumsum(taps.counts)[:-1], axis=1)
        self._taps, self._beside = taps, (parts[:2], parts[2:])
        self._around, self._around_off = parts[2][:, -len(NEIGHBOURS) :, None, None], parts[3][:, -1:]

    @cached_property
    def _back(self) -> list[Back]:
        """What channels look at in the frame before, TOGETHER of them at a time."""
        (guess, spread), begin = self._beside[1], self._taps.before
        end = begin + self._taps.around
        weights = guess[:, begin:end], spread[:, 1 + begin : 1 + end]
        channels = len(guess)
        rows = (slice(i, min(i + TOGETHER, channels)) for i in range(0, channels, TOGETHER))
        return [_choose_back(self._taps, these, weights) for these in rows]

    def walk(self, numbers: np.ndarray, resolve: Resolve) -> None:
        """Fill `numbers`, int16 [t, C, h, w], plane by plane, with what `resolve` makes of each guess.

        It is called with the numbers of frame and channel, the guesses in eighths and half a step more, and
        the spread in sixty-fourths, both int32 [h·w]; it gives the plane, int32 [h·w].
        """
        _, channels, h, w = numbers.shape
        size, pieces = h * w, -(-h * w // PIECE)
        shape = (2, channels, pieces, -(-size // pieces))
        seen, whole = np.zeros(shape, np.float32), np.empty((2, size), np.int32)
        now, off = seen.reshape(2, channels, -1)[..., :size]  # numbers, and what guesses were off by
        for frame, planes in enumerate(numbers):
            kind = min(frame, 1)
            guess_by, spread_by = self._beside[kind]
            points = np.array([[GUESS_POINTS[kind] - _EIGHTHS], [SPREAD_POINTS[kind]]], np.int32)
            sums = self._look_back(seen, h, w) if frame else np.zeros(shape, np.float32)
            sums[0] += 4.5 * (1 << points[0, 0])
            sums[1] += CONSTANT * spread_by[:, :1, None]
            for c in range(channels):
                first = max(0, c - self._taps.before)
                beside = seen[:, first:c].swapaxes(1, 2)
                sums[0, c] += guess_by[c, : c - first] @ beside[0]
                sums[1, c] += spread_by[c, 1 : 1 + c - first] @ beside[1]
                exact = sums[:, c].reshape(2, -1)[:, :size]
                np.right_shift(exact.astype(np.int32), points, out=whole)
                eighths, spread = whole
                np.maximum(eighths, -8 * MOST, out=eighths)  # np.clip takes four times as long
                np.minimum(eighths, 8 * MOST, out=eighths)
                plane = resolve(frame, c, eighths, spread)
                now[c] = plane
                planes[c] = plane.reshape(h, w)
                eighths -= 8 * plane + 4
                np.minimum(np.abs(eighths, out=eighths), MOST, out=off[c], casting="unsafe")

    def _look_back(self, seen: np.ndarray, h: int, w: int) -> np.ndarray:
        """What the frame before, [2, C, pieces, cells], adds to guesses and spreads of this one."""
        sums = np.empty_like(seen)
        for rows, columns, weights in self._back:
            sums[:, rows] = (weights[:, None] @ seen[:, columns].swapaxes(1, 2)).swapaxes(1, 2)
        guess, spread = sums.reshape(2, len(seen[0]), -1)[..., : h * w]
        now, off = seen.reshape(2, len(seen[0]), -1)[..., : h * w]
        padded = pad(now.reshape(-1, h, w))
        part = np.empty((len(now), h, w), np.float32)
        for k, (i, j) in enumerate(NEIGHBOURS):
            np.multiply(padded[:, i : i + h, j : j + w], self._around[:, k], out=part)
            guess += part.reshape(len(part), -1)
        spread += self._around_off * sum_around(off, h, w)
        return sums


def _choose_back(taps: Taps, rows: slice, back: tuple[np.ndarray, np.ndarray]) -> Back:
    """What some channels look at in the frame before, by their weights [C, around]; others have noughts."""
    channels = len(back[0])
    firsts = [taps.first_around(c, channels) for c in range(rows.start, rows.stop)]
    columns = slice(firsts[0], firsts[-1] + taps.around)
    weights = np.zeros((2, len(firsts), columns.stop - columns.start), np.float32)
    for i, first in enumerate(firsts):
        there = slice(first - columns.start, first - columns.start + taps.around)
        weights[:, i, there] = [each[rows.start + i] for each in back]
    return rows, columns, weights


def pad(planes: np.ndarray) -> np.ndarray:
    """Planes [C, h, w] with their borders repeated by one."""
    padded = np.empty((len(planes), planes.shape[1] + 2, planes.shape[2] + 2), planes.dtype)
    padded[:, 1:-1, 1:-1] = planes
    padded[:, 0, 1:-1], padded[:, -1, 1:-1] = planes[:, 0], planes[:, -1]
    padded[:, :, 0], padded[:, :, -1] = padded[:, :, 1], padded[:, :, -2]
    return padded


def sum_around(off: np.ndarray, h: int, w: int) -> np.ndarray:
    """Sums of 3×3 places of [C, h·w]."""
    rows = pad(off.reshape(-1, h, w))
    rows = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]).reshape(len(off), -1)
