"""Tries steps on a clip: decodes its latents as they are and as they would be stored, and compares."""

from collections.abc import Callable, Generator
from contextlib import closing

import numpy as np
import torch
from torch import Tensor

from vidlatent.engine.access import Access
from vidlatent.engine.model import Model
from vidlatent.errors import BadInput, parameter
from vidlatent.io.coded.packed import JOINED, Fitted
from vidlatent.io.latent.reader import LatentReader
from vidlatent.jobs.decode import DecodeOptions, fit_model, settle_plan
from vidlatent.jobs.decoded_frames import decode_frames
from vidlatent.jobs.progress import Progress
from vidlatent.jobs.small.asks import ClipLatents
from vidlatent.jobs.small.errors import SAME_DB, Errors
from vidlatent.metrics.psnr import Psnr
from vidlatent.windows import Plan

FRAMES = 68  # of a clip are decoded: all of a short one
WINDOWS = 4  # of a longer one, where the decoder can begin in the middle
HELD_BYTES = 256 << 20  # of what frames are compared with, 68 of 720p; of more it is made anew each time

Frames = Callable[[], Generator[np.ndarray]]  # begins the source anew: frames [H, W, 3]


class Requantised:
    """Latents as they would come back if they were stored as whole numbers."""

    def __init__(self, latents: ClipLatents, fitted: Fitted) -> None:
        self.path, self.header = latents.path, latents.header
        self.shape, self.frames = latents.shape, latents.frames
        self._latents, self._fitted = latents, fitted
        self._last: tuple[int, Tensor] | None = None

    def read_checked(self, start: int, stop: int) -> Tensor:
        """Latents [stop - start, C, h, w], cut out of the chunks that they will be coded in."""
        parts = []
        for number in JOINED.among(start, stop, self.frames):
            first, last = JOINED.span(number, self.frames)
            chunk = self._make_chunk(number, first, last)
            parts.append(chunk[max(start, first) - first : min(stop, last) - first])
        return torch.cat(parts)

    def _make_chunk(self, number: int, first: int, last: int) -> Tensor:
        """A chunk; the last one is kept, because the next latents mostly begin in it."""
        if self._last is None or self._last[0] != number:
            self._last = None  # the old chunk does not stand beside the new one
            latents = self._latents.read_checked(first, last).float()
            self._last = number, self._fitted.restore(self._fitted.quantise(latents))
        return self._last[1]


class Trial:
    """A clip's latents, the model that decodes them, and its source, where that is at hand."""

    def __init__(
        self, latents: LatentReader, model: Model, source: Frames | None, progress: Progress
    ) -> None:
        self._latents, self._source, self._progress = latents, source, progress
        self._model = fit_model(latents, model)
        self._plan = settle_plan(latents, self._model, DecodeOptions()).plan
        self.spans = choose_spans(latents, self._model, self._plan)
        self.has_source = source is not None
        self.decodes = 0
        self._held: list[np.ndarray] = []

    @property
    def frames(self) -> int:
        """How many frames are decoded each time."""
        return sum(last - first for first, last in self.spans)

    def measure_base(self) -> Errors:
        """The errors of the latents as they are, against the source."""
        return self.measure(self._latents)

    def measure(self, latents: ClipLatents) -> Errors:
        """The errors of latents in another form: against the source, or without one against the clip's."""
        psnr = Psnr(ceiling=SAME_DB)
        self._progress.begin(f"{self._latents.path}: decoding, to measure", self.frames)
        self.decodes += 1
        with closing(self._give_wanted()) as wanted, closing(self._decode(latents)) as decoded:
            for done, frame in enumerate(decoded, start=1):
                reference = next(wanted, None)
                if reference is None or (reference.shape, reference.dtype) != (frame.shape, frame.dtype):
                    raise BadInput(
                        f"{self._latents.path}: the source that was given is of other frames than its own",
                        f"give the clip that it was encoded from by {parameter('source')}",
                    )
                psnr.update(*(torch.from_numpy(side)[None] for side in (reference, frame)))
                self._progress.frames(done)
            next(wanted, None)  # a process that reads the source is done with it then, and need not be ended
        return Errors(10 ** (-psnr.per_frame() / 10))

    def _decode(self, latents: ClipLatents) -> Generator[np.ndarray]:
        """The frames of all spans."""
        for span in self.spans:
            yield from decode_frames(latents, self._model, self._plan, span)

    def _give_wanted(self) -> Generator[np.ndarray]:
        """What those frames are compared with; where it is no more than HELD_BYTES it is made once."""
        if len(self._held) == self.frames:
            yield from self._held
            return
        self._held.clear()
        with closing(self._read()) as frames:
            for frame in frames:
                if self.frames * frame.nbytes <= HELD_BYTES:
                    self._held.append(frame)
                yield frame

    def _read(self) -> Generator[np.ndarray]:
        """The same frames of the source, or of the latents as they are where there is none."""
        if self._source is None:
            yield from self._decode(self._latents)
            return
        with closing(self._source()) as frames:
            for n, frame in enumerate(frames):
                if any(first <= n < last for first, last in self.spans):
                    yield frame
                if n >= self.spans[-1][1]:
                    return


def choose_spans(latents: LatentReader, model: Model, plan: Plan) -> list[tuple[int, int]]:
    """Which frames [first, last) of a clip are decoded: all of a short one, else evenly spread windows.

    A decoder that cannot begin in the middle of a clip is tried at its beginning.
    """
    total = latents.header.source.frames
    if total <= FRAMES:
        return [(0, total)]
    if not Access.to_decoder(model, plan, *latents.shape[2:]).is_anywhere:
        return [(0, FRAMES)]
    length = FRAMES // WINDOWS
    starts = np.linspace(0, total - length, WINDOWS).astype(int)
    return [(int(start), int(start) + length) for start in starts]
