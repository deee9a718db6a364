"""Makes scores of pairs of frames: all metrics of one comparison get the same pairs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from vidlatent.metrics.base import Better, Metric

BATCH_FRAMES = 8  # pairs handed to the metrics at once


@dataclass(frozen=True)
class Definition:
    """What the numbers of a metric mean, and how they are made."""

    unit: str
    better: Better
    protocol: str


@dataclass(frozen=True)
class Score:
    """What one metric says of one comparison: the clip in a few numbers, and each of its frames.

    `per_frame[i]` belongs to frame `first + i`.
    """

    values: Mapping[str, float]
    per_frame: tuple[float, ...] = field(default=(), repr=False)
    first: int = 0

    @property
    def mean(self) -> float:
        """The clip in one number."""
        return self.values["mean"]


class Scoreboard:
    """Feeds pairs of frames to metrics, a few at a time, on the device where they are to be computed.

    Metrics in `sets` see the same frames, but give one score for many clips, so `scores` leaves them out.
    """

    def __init__(
        self, metrics: Sequence[Metric], device: torch.device | str = "cpu", sets: Sequence[Metric] = ()
    ) -> None:
        self._metrics = list(metrics)
        self._sets = list(sets)
        self._device = torch.device(device)
        self._held: list[tuple[np.ndarray, np.ndarray]] = []
        self.frames = 0

    def update(self, reference: np.ndarray, distorted: np.ndarray) -> None:
        """Take one pair of frames, each [H, W, 3] uint8 or uint16."""
        self._held.append(match_depths(reference, distorted))
        self.frames += 1
        if len(self._held) == BATCH_FRAMES:
            self._flush()

    def scores(self) -> dict[str, Score]:
        """The score of every metric; call it once, after the last pair."""
        self._flush()
        return {metric.name: self._score(metric) for metric in self._metrics}

    def _score(self, metric: Metric) -> Score:
        values = metric.result()
        per_frame = metric.per_frame()
        first = self.frames - len(per_frame) if len(per_frame) else 0
        return Score(values, tuple(per_frame.tolist()), first)

    def _flush(self) -> None:
        if not self._held:
            return
        sides = (torch.from_numpy(np.stack(side)).to(self._device) for side in zip(*self._held, strict=True))
        reference, distorted = sides
        self._held.clear()
        for metric in (*self._metrics, *self._sets):
            metric.update(reference, distorted)


def define_metrics(metrics: Iterable[Metric]) -> dict[str, Definition]:
    """What the numbers of these metrics mean, by their names."""
    return {m.name: Definition(m.unit, m.better, m.protocol) for m in metrics}


def match_depths(reference: np.ndarray, distorted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both frames [H, W, 3] in the depth of the deeper one; 8 bits become 16 exactly: 255 · 257 = 65535."""
    if reference.dtype == distorted.dtype:
        return reference, distorted
    return tuple(f if f.dtype == np.uint16 else f.astype(np.uint16) * 257 for f in (reference, distorted))
