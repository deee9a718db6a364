"""Fits the weights of a `Predictor` to a clip, by least squares."""

import numpy as np

from vidlatent.io.coded.predictor import (
    CONSTANT,
    GUESS_POINTS,
    LARGEST_WEIGHT,
    MOST,
    NEIGHBOURS,
    SPREAD_POINTS,
    Taps,
    pad,
    sum_around,
)

_DAMPING = 1e-5  # of the mean energy: so that what says nothing weighs nothing


def fit_weights(taps: Taps, chunks: list[np.ndarray]) -> np.ndarray:
    """Weights, int8 [C, taps], from chunks [t, C, h, w] of whole numbers, which may be parts of real ones."""
    fit = _Fit(taps, chunks)
    first, off = fit.guess(fit.frames, None)
    first_spread = fit.spread(off, None)
    pairs = [(i - 1, i) for i in range(len(fit.frames)) if not fit.begins[i]]
    if not pairs:
        return fit.join(first, first_spread)
    later, off_later = fit.guess([fit.frames[i] for _, i in pairs], [fit.frames[i] for i, _ in pairs])
    for (_, i), new in zip(pairs, off_later, strict=True):
        off[i] = new
    later_spread = fit.spread([off[i] for _, i in pairs], [off[i] for i, _ in pairs])
    return fit.join(first, first_spread, later, later_spread)


class _Fit:
    """The frames [C, h, w] of some chunks; `begins` says which of them are the first of a chunk."""

    def __init__(self, taps: Taps, chunks: list[np.ndarray]) -> None:
        self.taps = taps
        self.frames = [frame.astype(np.float64) for chunk in chunks for frame in chunk]
        self.begins = [i == 0 for chunk in chunks for i in range(len(chunk))]

    def join(self, *parts: np.ndarray) -> np.ndarray:
        """All weights side by side; those of frames that are not the first of a chunk may be missing."""
        weights = np.concatenate(parts, axis=1)
        missing = sum(self.taps.counts) - weights.shape[1]
        return np.pad(weights, ((0, 0), (0, missing))).astype(np.int8)

    def guess(
        self, now: list[np.ndarray], before: list[np.ndarray] | None
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Weights of guesses [C, taps], and what these are off by in eighths, for each frame."""
        flat, back = _flatten(now), before and _flatten(before)
        sides = before and [
            _flatten([pad(b)[:, i : i + b.shape[1], j : j + b.shape[2]] for b in before])
            for i, j in NEIGHBOURS
        ]
        point = GUESS_POINTS[before is not None]
        weights, off = [], np.empty_like(flat)
        for c, target in enumerate(flat):
            columns = self._columns(c, flat, back, sides)
            found = _solve(columns, target, 1 << point)
            eighths = np.floor(found @ columns * 2.0 ** (3 - point) + 0.5)
            off[c] = np.minimum(np.abs(8 * target - np.clip(eighths, -8 * MOST, 8 * MOST)), MOST)
            weights.append(self._place(found, c, 0))
        return np.stack(weights), _unflatten(off, now)

    def spread(self, now: list[np.ndarray], before: list[np.ndarray] | None) -> np.ndarray:
        """Weights of spreads [C, taps], from what guesses were off by."""
        flat, back = _flatten(now), before and _flatten(before)
        around = before and [_flatten([sum_around(b.reshape(len(b), -1), *b.shape[1:]) for b in before])]
        one = 8 << SPREAD_POINTS[before is not None]
        weights = []
        for c, target in enumerate(flat):
            constant = np.full((1, len(target)), CONSTANT, np.float64)
            columns = np.concatenate([constant, self._columns(c, flat, back, around)])
            rough = columns[1:].mean(0) + 1 if len(columns) > 1 else np.ones_like(target)
            for _ in range(2):
                found = _solve(columns, target, one, 1 / rough**2)
                rough = np.maximum(found @ columns / one, 0.25) + 0.5
            weights.append(self._place(found, c, 1))
        return np.stack(weights)

    def _columns(
        self, c: int, now: np.ndarray, before: np.ndarray | None, own: list[np.ndarray] | None
    ) -> np.ndarray:
        """What a channel is guessed from: [weights that are not nought, cells]."""
        columns = [now[max(0, c - self.taps.before) : c]]
        if before is not None:
            at = self.taps.first_around(c, len(now))
            columns += [before[at : at + self.taps.around], np.stack([each[c] for each in own])]
        return np.concatenate(columns)

    def _place(self, weights: np.ndarray, c: int, at: int) -> np.ndarray:
        """Weights of channel `c`, with noughts for channels before it that are not there; they begin `at`."""
        there = min(self.taps.before, c)
        return np.insert(weights, [at + there] * (self.taps.before - there), 0)


def _solve(columns: np.ndarray, target: np.ndarray, one: int, weigh: np.ndarray | None = None) -> np.ndarray:
    """Least squares, in whole numbers of which `one` is 1."""
    weighed = columns if weigh is None else columns * weigh
    if not len(columns):
        return np.zeros(0)
    gram = weighed @ columns.T
    gram[np.diag_indices_from(gram)] += _DAMPING * np.trace(gram) / len(gram) + 1e-9
    inverse = np.linalg.inv(gram)
    found = inverse @ (weighed @ target)
    for i in range(len(found)):  # each weight is rounded, and those after it make up for that
        exact, inside = found[i], inverse[i, i]
        found[i] = np.clip(np.rint(exact * one), -LARGEST_WEIGHT, LARGEST_WEIGHT) / one
        found[i + 1 :] -= (exact - found[i]) / inside * inverse[i + 1 :, i]
        inverse -= np.outer(inverse[:, i], inverse[i]) / inside
    return np.rint(found * one)


def _flatten(frames: list[np.ndarray]) -> np.ndarray:
    """Frames [C, h, w], whose h may differ, as one [C, cells]."""
    return np.concatenate([frame.reshape(len(frame), -1) for frame in frames], axis=1)


def _unflatten(flat: np.ndarray, frames: list[np.ndarray]) -> list[np.ndarray]:
    ends = np.cumsum([frame[0].size for frame in frames])[:-1]
    return [part.reshape(f.shape) for part, f in zip(np.split(flat, ends, axis=1), frames, strict=True)]
