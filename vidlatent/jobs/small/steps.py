"""From a loss that is allowed to the steps by which a clip's latents become whole numbers."""

from dataclasses import dataclass

import numpy as np

from vidlatent.io.coded.chunks import SIXTEEN
from vidlatent.io.coded.packed import LARGEST, SMALLEST_STEP
from vidlatent.io.coded.predictor import MOST
from vidlatent.io.coded.trellis import noise_of
from vidlatent.jobs.small.asks import ClipLatents

FINEST = 1e-6  # of `k`: steps are then as fine as whole numbers up to MOST allow
COARSEST = 1e6  # steps are then as large as the floor of the latents' SNR allows


@dataclass(frozen=True)
class ChannelFacts:
    """Of each channel [C] of a clip's latents: mean, deviation, and how far from the mean one gets."""

    mean: np.ndarray
    deviation: np.ndarray
    reach: np.ndarray

    @classmethod
    def of(cls, latents: ClipLatents) -> "ChannelFacts":
        """Read all latents once, a chunk at a time."""
        channels = latents.shape[1]
        total, squares = np.zeros((2, channels))
        low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
        shift, count = None, 0
        for span in SIXTEEN.spans(latents.frames):
            chunk = latents.read_checked(*span).double().numpy()
            shift = chunk.mean((0, 2, 3)) if shift is None else shift  # else squares of large means cancel
            away = chunk - shift[:, None, None]
            total, squares = total + away.sum((0, 2, 3)), squares + np.square(away).sum((0, 2, 3))
            low, high = np.minimum(low, chunk.min((0, 2, 3))), np.maximum(high, chunk.max((0, 2, 3)))
            count += away[:, 0].size
        mean = shift + total / count
        variance = np.maximum(squares / count - np.square(total / count), 0)
        return cls(mean, np.sqrt(variance), np.maximum(high - mean, mean - low))

    def find_too_large(self) -> int | None:
        """The first channel whose latents are beyond what whole numbers times a step can be, if there is one.

        No network gives such latents, but a file may hold them.
        """
        beyond = np.flatnonzero(np.maximum(np.abs(self.mean), self.reach) > LARGEST)
        return int(beyond[0]) if len(beyond) else None


@dataclass(frozen=True)
class Steps:
    """Steps k/√s for channels of sensitivity s, within what the clip's latents allow.

    No step is so fine that a number gets beyond MOST, and none coarser than leaves the latents of its channel
    the SNR of `floor_db`. With `trellis` a step makes as much noise as a longer one that is rounded to.
    """

    facts: ChannelFacts
    sensitivities: np.ndarray
    floor_db: float
    trellis: bool = False

    def at(self, k: float) -> np.ndarray:
        """Steps [C]; channels without deviation have any."""
        coarsest = self.facts.deviation * np.sqrt(12) * 10 ** (-self.floor_db / 20)
        finest = np.maximum(self.facts.reach / MOST, SMALLEST_STEP)
        wanted = np.minimum(k / np.sqrt(self.sensitivities), coarsest) / np.sqrt(noise_of(self.trellis))
        return np.minimum(np.maximum(wanted, finest), LARGEST / MOST)

    def added(self, k: float) -> float:
        """The squared error that is to be expected in the decoded video, [-1, 1]."""
        return float((self.sensitivities * np.square(self.at(k))).sum() * noise_of(self.trellis) / 12)


def measure_latent_snr(facts: ChannelFacts, noise: np.ndarray) -> dict[str, float]:
    """SNR in dB of latents with `noise`, a squared error for each channel: of the worst one, and the mean."""
    there = facts.deviation > 0
    if not there.any():
        return {}
    each = 10 * np.log10(np.square(facts.deviation[there]) / noise[there])
    return {"worst": round(float(each.min()), 2), "mean": round(float(each.mean()), 2)}
