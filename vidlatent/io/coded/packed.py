"""Latents as whole numbers times a step for each channel, predicted and entropy coded: the smallest form.

The steps are as coarse as somebody has chosen, so this form loses what they lose; see jobs/small, which finds
them for a given loss and says what it measured. What follows from the whole numbers loses nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from vidlatent.io.coded.chunks import Chunks
from vidlatent.io.coded.ends import ENDS, OpenedChunks, chunk_kinds, refuse_large
from vidlatent.io.coded.fitting import fit_weights
from vidlatent.io.coded.form import Kind, Shape
from vidlatent.io.coded.packing import pack, unpack
from vidlatent.io.coded.predictor import AROUND, BEFORE, MOST, Predictor, Taps, choose_taps
from vidlatent.io.coded.trellis import choose_numbers, noise_of

JOINED = Chunks(least=8)  # a few frames more in the last chunk take less than with a first one of their own
LARGEST = 2.0**120  # of a latent: so that no number times its step overflows
SMALLEST_STEP = 2.0**-120
SAMPLE_VALUES = 1 << 20  # that weights are fitted to: more make them no better


@dataclass(frozen=True, eq=False)
class Fitted:
    """What belongs to one clip: offsets and steps [C] of its numbers, float32, and the weights of guesses.

    With `trellis` the numbers of a place are a path through that, else each is the nearest to its latent.
    """

    offsets: np.ndarray
    steps: np.ndarray
    weights: np.ndarray
    trellis: bool = False

    def __post_init__(self) -> None:
        good = (
            (self.steps >= SMALLEST_STEP) & (self.steps <= LARGEST / MOST) & (np.abs(self.offsets) <= LARGEST)
        )
        if not np.all(good):
            raise ValueError("steps and offsets: expected numbers, steps above 0, less than 2^120")

    @property
    def noise(self) -> np.ndarray:
        """The squared error of latents that is to be expected of the steps, [C]."""
        return np.square(self.steps.astype(np.float64)) * noise_of(self.trellis) / 12

    def quantise(self, latents: Tensor) -> np.ndarray:
        """Latents [t, C, h, w], a chunk or all frames of a part of one → whole numbers, int16."""
        offsets, steps = (each[:, None, None].astype(np.float64) for each in (self.offsets, self.steps))
        numbers = np.empty(latents.shape, np.float32 if self.trellis else np.int16)
        for frame, latent in zip(numbers, latents.numpy(), strict=True):
            exact = (latent - offsets) / steps
            frame[:] = (
                np.clip(exact, 2 - MOST, MOST - 2) if self.trellis else np.clip(np.rint(exact), -MOST, MOST)
            )
        return choose_numbers(numbers) if self.trellis else numbers

    def restore(self, numbers: np.ndarray) -> Tensor:
        """Whole numbers → latents: in float32, number times step, then plus offset."""
        latents = numbers.astype(np.float32)
        latents *= self.steps[:, None, None]
        latents += self.offsets[:, None, None]
        return torch.from_numpy(latents)


@dataclass(frozen=True, eq=False)
class Packed:
    """Stored as U8 [bytes] beside `ends`, `offsets` and `steps` F32 [C], and `weights` I8 [C, taps].

    `price` is what was measured of the clip when its steps were chosen: JSON values, of no importance for
    reading. Only with what is `fitted` to a clip can latents be coded; reading finds that in the file.
    """

    taps: Taps
    trellis: bool = False
    price: Mapping[str, object] = field(default_factory=dict)
    fitted: Fitted | None = None
    name = "packed"
    working = dtype = "F32"
    chunks = JOINED
    finite = True

    @classmethod
    def of(cls, facts: Mapping[str, object]) -> "Packed":
        """From the fact `stored` of a header; raises ValueError where that says what cannot be."""
        taps, price = facts.get("taps"), facts.get("price", {})
        good = isinstance(taps, list) and len(taps) == 2 and all(type(count) is int for count in taps)
        if not (good and 0 <= taps[0] <= BEFORE and 1 <= taps[1] <= AROUND):
            raise ValueError(f"stored.taps: expected up to [{BEFORE}, {AROUND}], got {taps!r:.40}")
        if not isinstance(price, dict):
            raise ValueError(f"stored.price: expected an object, got {price!r:.40}")
        trellis = facts.get("trellis")
        if type(trellis) is not bool:
            raise ValueError(f"stored.trellis: expected true or false, got {trellis!r:.40}")
        return cls(Taps(*taps), trellis, price)

    def facts(self) -> Mapping[str, object]:
        """What the predictor looks at, whether numbers follow a trellis, and what was measured."""
        taps = [self.taps.before, self.taps.around]
        return {"taps": taps, "trellis": self.trellis, "price": dict(self.price)}

    def code(self, chunk: Tensor) -> tuple[memoryview, bytes]:
        """Words of 16 bits; whatever stands beside them is the same for all chunks."""
        refuse_large(chunk.shape, JOINED)
        predictor = Predictor(self.taps, self.fitted.weights)
        words = pack(self.fitted.quantise(chunk), predictor, self.trellis)
        return memoryview(words.astype("<u2").view(np.uint8)), b""

    def sides(self, ends: np.ndarray, parts: bytes) -> Mapping[str, np.ndarray]:
        """Where chunks end, and what is fitted to the clip."""
        fitted = self.fitted
        return {ENDS: ends, "offsets": fitted.offsets, "steps": fitted.steps, "weights": fitted.weights}

    def kinds(self, shape: Shape, size: int) -> Mapping[str, Kind]:
        """Bytes, as many as there are, where chunks end, and what is fitted; raises for too many taps."""
        channels = shape[1]
        if self.taps.before >= channels or self.taps.around > channels:
            raise ValueError(f"stored.taps: {self.taps} for {channels} channels")
        each = ("F32", (channels,))
        weights = ("I8", (channels, sum(self.taps.counts)))
        return {**chunk_kinds(shape, size, JOINED), "offsets": each, "steps": each, "weights": weights}

    def open(self, shape: Shape, size: int, sides: Mapping[str, np.ndarray]) -> OpenedChunks:
        """The chunks, to be read; raises for offsets and steps that are no such numbers."""
        fitted = Fitted(sides["offsets"], sides["steps"], sides["weights"], self.trellis)
        predictor = Predictor(self.taps, fitted.weights)

        def expand(codes: np.ndarray, shape: tuple[int, ...]) -> Tensor:
            if len(codes) % 2:
                raise ValueError(f"a chunk of {len(codes)} bytes, which are no words")
            return fitted.restore(unpack(codes.view("<u2"), shape, predictor, self.trellis))

        return OpenedChunks(shape, size, sides, torch.float32, expand, JOINED)


def fit(
    shape: Shape, sample: list[Tensor], offsets: np.ndarray, steps: np.ndarray, trellis: bool = False
) -> Packed:
    """A form for latents of a shape, by offsets and steps [C], its weights fitted to a sample of them."""
    channels = shape[1]
    fitted = Fitted(offsets.astype("<f4"), steps.astype("<f4"), np.zeros((channels, 0), np.int8), trellis)
    taps = choose_taps(shape)
    weights = fit_weights(taps, [fitted.quantise(chunk) for chunk in sample])
    return Packed(taps, trellis, fitted=replace(fitted, weights=weights))


def choose_sample(shape: Shape) -> tuple[list[tuple[int, int]], slice]:
    """[start, stop) of the chunks of latents to fit weights to, and their rows: about SAMPLE_VALUES."""
    t, channels, h, w = shape
    chunks = list(JOINED.spans(t))
    row = min(t, JOINED.length) * channels * w
    rows = min(h, max(1, SAMPLE_VALUES // row))
    wanted = max(1, SAMPLE_VALUES // (row * rows))
    top = (h - rows) // 2
    return chunks[:: -(-len(chunks) // wanted)], slice(top, top + rows)
