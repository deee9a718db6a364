"""Sends a clip through a model and back, as a stream, and times each half."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from statistics import median

import numpy as np
from torch import Tensor

from vidlatent.engine import pixels
from vidlatent.engine.model import Model
from vidlatent.jobs.measure.machine import Clocked, PeakMemory
from vidlatent.jobs.measure.results import Speed
from vidlatent.jobs.measure.stored import StoredForm, find_form, keep_all
from vidlatent.models.base import Posterior
from vidlatent.windows import Plan

Frames = Callable[[], Iterator[np.ndarray]]  # starts the clip again: frames [H, W, 3] uint8 or uint16
Pairs = Iterator[tuple[np.ndarray, np.ndarray]]
See = Callable[[np.ndarray, np.ndarray], None]


@dataclass(frozen=True)
class Subject:
    """A model as it is measured: how its latents are kept, how clips are cut, how pixels are rounded."""

    name: str
    model: Model
    store: str  # the name of a StoredForm
    plan: Plan
    seed: int | None = None  # sample the posterior with it; None: its mode
    truncate: bool = False  # decoded floats to integers as the papers' scripts do it, not rounded
    form: StoredForm | None = None  # where that of `store` is fitted to one clip


@dataclass
class RoundtripPass:
    """What one pass over a clip cost; complete once all its pairs were taken."""

    encode_s: float = 0.0
    decode_s: float = 0.0
    frames: int = 0
    latents: int = 0
    bits: int = 0  # that the latents take in the form they are kept in
    held: deque[np.ndarray] = field(default_factory=deque, repr=False)  # sources waiting for their pair


def roundtrip(subject: Subject, frames: Iterator[np.ndarray], done: RoundtripPass) -> Pairs:
    """Pairs (source, reconstruction) of frames [H, W, 3]; no more than a window of the clip is held."""
    model, synchronise = subject.model, subject.model.runtime.synchronise
    read = Clocked(_hold(frames, done))
    windows = Clocked(model.encode_clip(read, subject.plan), synchronise)
    stored = _store_latents(windows, subject, done)
    decoded = Clocked(_round_windows(model.decode_stream(stored, subject.plan), subject, done), synchronise)
    for reconstructions in decoded:
        for frame in reconstructions[: len(done.held)]:  # beyond those is what the grid made us add
            done.frames += 1
            yield done.held.popleft(), frame
    done.encode_s = windows.seconds - read.seconds
    done.decode_s = decoded.seconds - windows.seconds


def _hold(frames: Iterator[np.ndarray], done: RoundtripPass) -> Iterator[np.ndarray]:
    for frame in frames:
        done.held.append(frame)
        yield frame


def _store_latents(windows: Iterator[Tensor], subject: Subject, done: RoundtripPass) -> Iterator[Tensor]:
    """The latents [1, C, h, w] of one latent frame after the other, as they are read back from their form."""
    form = subject.form or find_form(subject.store)
    done.bits += form.fixed_bits
    for kept, bits in keep_all(form, draw_latents(windows, subject)):
        done.bits += bits
        done.latents += len(kept)
        yield from kept.split(1)


def draw_latents(windows: Iterator[Tensor], subject: Subject) -> Iterator[Tensor]:
    """The latents [t, C, h, w] of each window of moments."""
    count = 0
    for moments in windows:
        posterior = Posterior.of(moments)
        sampled = subject.seed is not None
        latents = posterior.sample(subject.seed, start=count) if sampled else posterior.mode()
        count += latents.shape[2]
        yield latents[0].transpose(0, 1)


def _round_windows(windows: Iterator[Tensor], subject: Subject, done: RoundtripPass) -> Iterator[np.ndarray]:
    """The frames [T, H, W, 3] of each decoded window, in the source's size and depth."""
    for video in windows:
        if not done.held:  # a window of nothing but frames that the grid made us add
            return
        height, width, _ = done.held[0].shape
        dtype = done.held[0].dtype
        # Half a level lower, rounding half up is truncation.
        shifted = video - 1 / pixels.FULL_SCALE[dtype] if subject.truncate else video
        yield pixels.to_frames(shifted, height, width, dtype)


@dataclass(frozen=True)
class Measured:
    """What several passes over a clip found: median times, and the memory of the first of them."""

    speed: Speed
    last: RoundtripPass
    peak_host_bytes: int
    peak_device_bytes: int | None


def measure(
    subject: Subject, clip: Frames, runs: int, see: Callable[[np.ndarray, np.ndarray], None]
) -> Measured:
    """Warm up, and send the clip through `runs` times. `see` is called with every pair of the last pass."""
    with closing(clip()) as frames:
        _exhaust(roundtrip(subject, _first_window(frames, subject), RoundtripPass()))
    memory, passes, peaks = PeakMemory(subject.model.runtime.device), [], None
    for run in range(runs):
        done = RoundtripPass()
        with closing(clip()) as frames:
            for reference, distorted in roundtrip(subject, frames, done):
                if run == runs - 1:
                    see(reference, distorted)
        passes.append(done)
        peaks = peaks or (memory.host(), memory.on_device())
    encode_s, decode_s = (tuple(getattr(done, part) for done in passes) for part in ("encode_s", "decode_s"))
    speed = Speed(median(encode_s), median(decode_s), runs, encode_s, decode_s)
    return Measured(speed, passes[-1], *peaks)


def _first_window(frames: Iterator[np.ndarray], subject: Subject) -> Iterator[np.ndarray]:
    return islice(frames, subject.plan.encode_time.longest or subject.model.spec.grid.frames(2))


def _exhaust(items: Iterator) -> None:
    for _ in items:
        pass
