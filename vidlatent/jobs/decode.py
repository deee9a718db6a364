"""Decode: a `.latent` becomes a film again, with the source's own times, size, colour and sound."""

import math
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from time import perf_counter

import numpy as np
from torch import Tensor

from vidlatent.engine import pixels
from vidlatent.engine.access import Access
from vidlatent.engine.demand import Workload
from vidlatent.engine.memory import Fit, settle
from vidlatent.engine.model import Model
from vidlatent.engine.plan import PlanWishes, plan_for
from vidlatent.engine.scratch import Scratch
from vidlatent.engine.tilewise import Again, Tilewise
from vidlatent.errors import UsageError, parameter
from vidlatent.files import refuse_existing, refuse_foreign, refuse_same
from vidlatent.io.latent.reader import LatentReader, open_latent
from vidlatent.io.write.movie import FILM
from vidlatent.io.write.sink import STDOUT, SinkOptions, is_folder, open_sink
from vidlatent.jobs.models import ModelChoice
from vidlatent.jobs.picture import read_picture
from vidlatent.jobs.progress import SILENT, Progress
from vidlatent.jobs.segments import (
    Pool,
    Task,
    Workers,
    choose_length,
    choose_workers,
    keep_segments,
    read_items,
    share_memory,
)
from vidlatent.models import registry
from vidlatent.models.horizon import latent_of
from vidlatent.prefetch import prefetch
from vidlatent.windows import Plan

READ_LATENTS, READ_BYTES = 16, 8 << 20  # latent frames read from the file at once, where they are no larger
WRITE_AHEAD_FRAMES, WRITE_AHEAD_BYTES = 16, 32 << 20  # decoded frames that may wait for the codec


@dataclass(frozen=True)
class DecodeOptions:
    """What to decode, and how.

    `start` and `end` are seconds on the source's clock: frames with start <= pts < end are written. `plan`
    says how to cut where it is not to be as the file says. `max_memory` is in bytes; None lets a model that
    is not exact use what the machine has free. `workers` share a clip that can be entered in the middle; what
    they make is the same.
    """

    start: Fraction | None = None
    end: Fraction | None = None
    plan: PlanWishes = field(default_factory=PlanWishes)
    max_memory: int | None = None
    sink: SinkOptions = field(default_factory=SinkOptions)
    audio: bool = True
    force: bool = False
    workers: Workers | None = None


@dataclass(frozen=True)
class DecodeResult:
    """What came of decoding one file."""

    target: Path
    frames: int
    width: int
    height: int
    seconds: float
    notices: tuple[str, ...]


def decode_file(
    source: Path,
    target: Path | str,
    choice: ModelChoice | None = None,
    options: DecodeOptions | None = None,
    progress: Progress = SILENT,
) -> DecodeResult:
    """Open a `.latent`, load the model that it names (or the one chosen instead), and decode."""
    with open_latent(source) as latents:
        return decode(latents, target, choose_model(latents, choice or ModelChoice()), options, progress)


def choose_model(source: LatentReader, choice: ModelChoice) -> Model:
    """The model that made these latents, or the one chosen instead; it is loaded."""
    named = source.header.model
    if choice.model is None and choice.weights is None and named not in registry.names():
        registry.demand_extra(named)
        raise UsageError(
            f"{source.path}: made by {named}, which has no published weights",
            f"give the folder or file of its weights by {parameter('weights')}",
        )
    return choice.load(named if named in registry.names() else None)


def decode(
    source: LatentReader | Path | str,
    target: Path | str,
    model: Model | None = None,
    options: DecodeOptions | None = None,
    progress: Progress = SILENT,
) -> DecodeResult:
    """Decode a `.latent` into a film, a folder of images, or YUV4MPEG on stdout ("-").

    Without a model the one that the file names is loaded. The file says what settings of the model's
    options to decode with, unless the model was given others.
    """
    if not isinstance(source, LatentReader):
        with open_latent(Path(source)) as latents:
            return decode(latents, target, model or choose_model(latents, ModelChoice()), options, progress)
    options, model = options or DecodeOptions(), model or choose_model(source, ModelChoice())
    began, picture = perf_counter(), read_picture(source)
    model = fit_model(source, model)
    if str(target) != STDOUT and not Path(target).is_dir():
        refuse_same(source.path, Path(target))
        refuse_existing(Path(target), options.force)
        refuse_foreign(Path(target), FILM)
    first, last = select_frames(source, options)
    settled = settle_plan(source, model, options)
    access = Access.to_decoder(model.spec, settled.plan, *source.shape[2:])
    workers, alone = choose_workers(options.workers, access, True, settled.passes)
    shares = Shares(progress, last - first, model.spec.grid.latents(last), settled.passes)
    progress.begin(str(source.path), last - first)
    origin = source.clock.seconds(first) if first else Fraction(0)
    sound = source.has_audio and options.audio
    mute = ("images and YUV4MPEG hold no sound: left out",) if sound and not can_hold_sound(target) else ()
    with (
        source.open_audio() if sound and not mute else nullcontext() as audio,
        open_sink(target, picture, audio, options.sink, origin) as sink,
        settled.scratch(None if str(target) == STDOUT else Path(target)) as scratch,
        closing(
            decode_frames(source, model, settled.plan, (first, last), scratch, shares.watch)
            if workers is None
            else decode_in_segments(source, model, settled.plan, (first, last), workers, target)
        ) as frames,
    ):
        for n, rgb in enumerate(frames, start=first):
            sink.write(rgb, int(source.clock.pts[n]), source.clock.duration_of(n))
            shares.written(n + 1 - first)
    return DecodeResult(
        target=Path(target),
        frames=last - first,
        width=picture.width,
        height=picture.height,
        seconds=perf_counter() - began,
        notices=(*settled.notices, *alone, *mute, *sink.notices),
    )


def settle_plan(source: LatentReader, model: Model, options: DecodeOptions) -> Fit:
    """The plan in the file, with what is wished otherwise, and smaller where memory does not suffice."""
    plan = plan_for(model.spec, options.plan, source.header.plan)
    clip = source.header.source
    work = Workload(clip.height, clip.width, clip.frames, encode=False, rereadable=True)
    return settle(model, plan, work, share_memory(options.max_memory, options.workers))


class Shares:
    """Tells how far a clip is, in frames, also where its latents pass by once for every tile.

    Then each of those passes is an equal part of the work, and writing the frames is the last part.
    """

    def __init__(self, progress: Progress, frames: int, latents: int, passes: int) -> None:
        self._progress, self._frames, self._latents = progress, frames, latents
        self._before = passes if passes > 1 else 0
        self._seen = 0

    def watch(self, latents: Iterator[Tensor]) -> Iterator[Tensor]:
        """Count latents on their way to the network."""
        for latent in latents:
            self._seen += 1
            if self._before:
                self._tell(min(self._seen * self._frames // self._latents, self._before * self._frames))
            yield latent

    def written(self, frames: int) -> None:
        """Tell that so many frames are written."""
        self._tell(self._before * self._frames + frames)

    def _tell(self, done: int) -> None:
        self._progress.frames(done // (self._before + 1))


def decode_frames(
    source: LatentReader,
    model: Model,
    plan: Plan,
    span: tuple[int, int],
    scratch: Scratch | None = None,
    watch: Callable[[Iterator[Tensor]], Iterator[Tensor]] = iter,
) -> Iterator[np.ndarray]:
    """Frames [first, last) = `span` of the clip, one by one: [H, W, 3] uint8, or uint16 as a deep source.

    With `scratch` the tiles go through the clip one by one, and their results wait there. `watch` sees the
    latents pass by.
    """
    header, (first, last) = source.header, span
    grid, access = model.spec.grid, Access.to_decoder(model.spec, plan, *source.shape[2:])
    begin = access.begin(latent_of(grid, first), source.frames)
    n = grid.frames(begin + 1) - grid.head  # the clip's number of the first frame that comes
    size = (header.source.height, header.source.width)
    dtype = np.uint16 if header.picture["bit_depth"] > 8 else np.uint8
    latents = Again(lambda: watch(read_latents(source, begin)))
    tilewise = scratch and Tilewise(scratch, last - n)
    windows = model.decode_stream(latents, plan, source.frames - begin, tilewise, begin)
    frames = round_frames(windows, (first - n, last - n), size, dtype)
    depth = min(WRITE_AHEAD_FRAMES, max(1, WRITE_AHEAD_BYTES // (3 * size[0] * size[1] * dtype().itemsize)))
    with closing(prefetch(frames, depth)) as ahead:  # the network runs while this thread writes
        yield from ahead


def decode_in_segments(
    source: LatentReader,
    model: Model,
    plan: Plan,
    span: tuple[int, int],
    workers: Workers,
    target: Path | str,
) -> Iterator[np.ndarray]:
    """What `decode_frames` gives, made by several processes."""
    grid, (first, last) = model.spec.grid, span
    access = Access.to_decoder(model.spec, plan, *source.shape[2:])
    latents = latent_of(grid, last - 1) + 1 - latent_of(grid, first)
    length = choose_length(access, len(workers.devices), latents)
    numbers = range(latent_of(grid, first) // length, latent_of(grid, last - 1) // length + 1)
    with keep_segments(None if str(target) == STDOUT else Path(target)) as folder:
        task = Task(source.path, folder, plan, length, span=span, part=source.part)
        with Pool(task, workers, model) as pool:
            for done, path in pool.segments(numbers):
                for frames in read_items(done, path):
                    yield from frames


def round_frames(
    windows: Iterator[Tensor], span: tuple[int, int], size: tuple[int, int], dtype: type
) -> Iterator[np.ndarray]:
    """Frames [first, last) = `span` of decoded windows [1, 3, T, H, W], each rounded when it is asked for."""
    n, (first, last) = 0, span
    for video in windows:
        low, high = max(first - n, 0), min(last - n, video.shape[2])
        for i in range(low, high):
            yield pixels.to_frames(video[:, :, i : i + 1], *size, dtype)[0]
        n += video.shape[2]
        del video  # the next window's floats do not stand beside this one's
        if n >= last:
            return


def read_latents(source: LatentReader, begin: int) -> Iterator[Tensor]:
    """The latents [1, C, h, w] of every latent frame from `begin` on."""
    count = min(READ_LATENTS, max(1, READ_BYTES // (4 * math.prod(source.shape[1:]))))
    for start in range(begin, source.frames, count):
        yield from source.read_checked(start, min(start + count, source.frames)).split(1)


def select_frames(source: LatentReader, options: DecodeOptions) -> tuple[int, int]:
    """[first, last) of the frames with start <= pts < end; raises UsageError where there is none."""
    clock, total = source.clock, source.header.source.frames
    low, high = 0, total
    if options.start is not None:
        low = int(np.searchsorted(clock.pts, -(-options.start // clock.time_base)))
    if options.end is not None:
        high = int(np.searchsorted(clock.pts, -(-options.end // clock.time_base)))
    if low >= high:
        span = f"{float(clock.seconds(0)):.3f} s to {float(clock.end):.3f} s"
        between = f"{parameter('start')} and {parameter('end')}"
        raise UsageError(f"{source.path}: no frame between {between}", f"the clip runs from {span}")
    return low, high


def fit_model(source: LatentReader, model: Model) -> Model:
    """The model with the settings that these latents ask for; raises UsageError where it is another."""
    check_model(source, model)
    return model.choose(**{**source.header.settings, **model.spec.settings})


def check_model(source: LatentReader, model: Model) -> None:
    """Raise UsageError where these latents were made by another model, or with other weights."""
    header = source.header
    if source.shape[1] != model.spec.channels or header.grid != model.spec.grid:
        raise UsageError(
            f"{source.path}: made by {header.model} ({source.shape[1]} channels), "
            f"{model.spec.name} has {model.spec.channels}",
            f"decode with {parameter('model')} {header.model}",
        )
    if header.weights_sha256 and model.weights_sha256 and header.weights_sha256 != model.weights_sha256:
        raise UsageError(
            f"{source.path}: made with other weights ({header.weights_sha256[:12]}…) "
            f"than {model.spec.name} has here ({model.weights_sha256[:12]}…)",
            f"give the weights it was made with by {parameter('weights')}",
        )


def can_hold_sound(target: Path | str) -> bool:
    """Whether what is written to `target` can hold sound: films can, images and YUV4MPEG cannot."""
    return str(target) != STDOUT and not is_folder(target)
