"""One clip through a model and back, streaming, with the clock running on each half."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from statistics import median

import numpy as np
import torch
from torch import Tensor

from vidlatent.engine import pixels
from vidlatent.engine.model import Model
from vidlatent.engine.runtime import named_dtype
from vidlatent.jobs.measure.machine import Clocked, PeakMemory
from vidlatent.jobs.measure.results import Speed
from vidlatent.models.base import Posterior
from vidlatent.windows import Plan

Frames = Callable[[], Iterator[np.ndarray]]  # begins the clip anew, frames [H, W, 3] uint8 or uint16
Pairs = Iterator[tuple[np.ndarray, np.ndarray]]
See = Callable[[np.ndarray, np.ndarray], None]


@dataclass(frozen=True)
class Subject:
    """A model as it is measured: in which dtype its latents are kept, how clips are cut, how pixels round."""

    name: str
    model: Model
    store: str
    plan: Plan
    seed: int | None = None  # sample the posterior with it; None: its mode
    truncate: bool = False  # decoded floats to integers as the papers' scripts do it, not rounded


@dataclass
class Pass:
    """What one pass over a clip cost; complete once its pairs were taken."""

    encode_s: float = 0.0
    decode_s: float = 0.0
    frames: int = 0
    latents: int = 0
    shape: tuple[int, ...] = ()  # of the last window's latents [1, C, t, h, w]
    held: deque[np.ndarray] = field(
        default_factory=deque, repr=False
    )  # sources waiting for their counterpart


def roundtrip(subject: Subject, frames: Iterator[np.ndarray], done: Pass) -> Pairs:
    """Pairs (source, reconstruction) of frames [H, W, 3]; nothing but a window of the clip is held."""
    model, synchronise = subject.model, subject.model.runtime.synchronise
    read = Clocked(_held(frames, done))
    windows = Clocked(model.encode_clip(read, subject.plan), synchronise)
    stored = _stored(windows, subject, done)
    decoded = Clocked(_decoded(model.decode_stream(stored, subject.plan), subject, done), synchronise)
    for reconstructions in decoded:
        for frame in reconstructions[: len(done.held)]:  # beyond those is what the grid made us add
            done.frames += 1
            yield done.held.popleft(), frame
    done.encode_s = windows.seconds - read.seconds
    done.decode_s = decoded.seconds - windows.seconds


def _held(frames: Iterator[np.ndarray], done: Pass) -> Iterator[np.ndarray]:
    for frame in frames:
        done.held.append(frame)
        yield frame


def _stored(windows: Iterator[Tensor], subject: Subject, done: Pass) -> Iterator[Tensor]:
    """Latents [1, C, h, w], one frame after the other, in the dtype they are kept in."""
    for moments in windows:
        posterior = Posterior.of(moments)
        sampled = subject.seed is not None
        latents = posterior.sample(subject.seed, start=done.latents) if sampled else posterior.mode()
        done.shape = tuple(latents.shape)
        done.latents += latents.shape[2]
        yield from latents.to(named_dtype(subject.store)).unbind(2)


def _decoded(windows: Iterator[Tensor], subject: Subject, done: Pass) -> Iterator[np.ndarray]:
    """Frames [T, H, W, 3] of each decoded window, in the source's size and depth."""
    for video in windows:
        if not done.held:  # a window of nothing but frames that the grid made us add
            return
        height, width, _ = done.held[0].shape
        dtype = done.held[0].dtype
        # Half a level lower, rounding half up is truncation.
        shifted = video - 1 / pixels.FULL_SCALE[dtype] if subject.truncate else video
        yield pixels.to_frames(shifted, height, width, dtype)


def latent_bits(subject: Subject, done: Pass) -> int:
    """Bits of the clip's latents as they are kept."""
    _, c, _, h, w = done.shape
    return done.latents * c * h * w * torch.finfo(named_dtype(subject.store)).bits


@dataclass(frozen=True)
class Measured:
    """What several passes say together; memory is that of the first of them."""

    speed: Speed
    last: Pass
    peak_host_bytes: int
    peak_device_bytes: int | None


def measure(
    subject: Subject, clip: Frames, runs: int, see: Callable[[np.ndarray, np.ndarray], None]
) -> Measured:
    """Warm up, go over the clip `runs` times, and give medians. `see` gets every pair of the last pass."""
    with closing(clip()) as frames:
        _exhaust(roundtrip(subject, _first_window(frames, subject), Pass()))
    memory, passes, peaks = PeakMemory(subject.model.runtime.device), [], None
    for run in range(runs):
        done = Pass()
        with closing(clip()) as frames:
            for reference, distorted in roundtrip(subject, frames, done):
                if run == runs - 1:
                    see(reference, distorted)
        passes.append(done)
        peaks = peaks or (memory.host(), memory.on_device())
    times = [median(getattr(done, part) for done in passes) for part in ("encode_s", "decode_s")]
    return Measured(Speed(*times, runs), passes[-1], *peaks)


def _first_window(frames: Iterator[np.ndarray], subject: Subject) -> Iterator[np.ndarray]:
    return islice(frames, subject.plan.encode_time.longest or subject.model.spec.grid.frames(2))


def _exhaust(items: Iterator) -> None:
    for _ in items:
        pass
