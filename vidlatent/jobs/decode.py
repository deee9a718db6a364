"""Decode: a `.latent` becomes a film again, with the source's own times, size, colour and sound."""

from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from time import perf_counter

import numpy as np
from torch import Tensor

from vidlatent.clock import FrameClock
from vidlatent.engine.access import Access
from vidlatent.engine.demand import Workload
from vidlatent.engine.memory import Fit, settle
from vidlatent.engine.model import Model
from vidlatent.engine.plan import PlanWishes, plan_for
from vidlatent.errors import BadLatentFile, UsageError, parameter
from vidlatent.files import refuse_existing, refuse_foreign, refuse_same, refuse_unwritable
from vidlatent.io.journal import Differs
from vidlatent.io.latent.header import LATENTS
from vidlatent.io.latent.reader import LatentReader, open_latent
from vidlatent.io.write.images import ImageSink
from vidlatent.io.write.movie import FILM, FORMATS
from vidlatent.io.write.sink import STDOUT, SinkOptions, VideoSink, check_target, is_folder, open_sink
from vidlatent.jobs.decoded_frames import decode_frames, decode_in_segments
from vidlatent.jobs.models import ModelChoice
from vidlatent.jobs.picture import read_picture
from vidlatent.jobs.progress import SILENT, Progress
from vidlatent.jobs.resume import OTHERS, describe_making, endless
from vidlatent.jobs.segments import Workers, choose_workers, share_memory
from vidlatent.models import registry
from vidlatent.models.base import ModelSpec
from vidlatent.quantities import Number, to_bytes, to_seconds
from vidlatent.windows import Plan


@dataclass(frozen=True)
class DecodeOptions:
    """What to decode, and how.

    `start` and `end` are seconds on the source's clock: frames with start <= pts < end are written. `plan`
    says how to cut where it is not to be as the file says. `max_memory` is "4G" or bytes; None lets a model
    that is not exact use what the machine has free. `workers` share a clip that can be entered in the middle;
    what they make is the same. `resume` goes on with a folder of images that an earlier run by the same
    options has left where it was killed, and leaves what there is where this one is.
    """

    start: Number | None = None
    end: Number | None = None
    plan: PlanWishes = field(default_factory=PlanWishes)
    max_memory: int | str | None = None
    sink: SinkOptions = field(default_factory=SinkOptions)
    audio: bool = True
    force: bool = False
    resume: bool = False
    workers: Workers | None = None

    def __post_init__(self) -> None:
        for name, convert in (("start", to_seconds), ("end", to_seconds), ("max_memory", to_bytes)):
            object.__setattr__(self, name, convert(getattr(self, name), name))


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
    refuse_film(source)
    with open_latent(source) as latents:
        check_before_loading(latents, target, options or DecodeOptions())
        model = choose_model(latents, choice or ModelChoice(), options and options.plan)
        return decode(latents, target, model, options, progress)


def refuse_film(source: Path) -> None:
    """Raise BadLatentFile where the file is a video, by its name and by its first bytes."""
    if source.suffix.lower() in FORMATS and source.is_file():
        with source.open("rb") as file:
            if any(sign in file.read(FILM.within) for sign in FILM.signs):
                raise BadLatentFile(
                    f"{source}: is a video, and holds no latents",
                    f"encode it first: vidlatent encode {source} -o {source.stem}.latent",
                )


def check_before_loading(source: LatentReader, target: Path | str, options: DecodeOptions) -> None:
    """Raise UsageError for what can be known to be wrong before the weights are loaded, or fetched."""
    refuse_target(source, target, options)
    select_frames(source, options)
    check_target(target, read_picture(source), options.sink)


def choose_model(source: LatentReader, choice: ModelChoice, wishes: PlanWishes | None = None) -> Model:
    """The model that made these latents, or the one chosen instead; it is loaded to decode alone.

    Raises UsageError before that where it is another one, or cannot cut latents as is wished.
    """
    named = source.header.model
    if choice.model is None and choice.weights is None and named not in registry.names():
        registry.demand_extra(named)
        raise UsageError(
            f"{source.path}: made by {named}, which has no published weights",
            f"give the folder or file of its weights by {parameter('weights')}",
        )
    known = named if named in registry.names() else None
    if choice != ModelChoice() or (wishes or PlanWishes()) != PlanWishes():
        spec = choice.foresee(known)
        check_spec(source, spec)
        plan_for(spec, wishes or PlanWishes(), source.header.plan)
    return choice.load(known, only="decode")


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
            return decode(latents, target, model, options, progress)
    options = options or DecodeOptions()
    model = model or choose_model(source, ModelChoice(), options.plan)
    began, picture = perf_counter(), read_picture(source)
    model = fit_model(source, model)
    check_before_loading(source, target, options)
    first, last = select_frames(source, options)
    settled = settle_plan(source, model, options)
    access = Access.to_decoder(model, settled.plan, *source.shape[2:])
    workers, alone = choose_workers(options.workers, access, True, settled.passes)
    shares = Shares(progress, last - first, model.spec.grid.latents(last), settled.passes)
    progress.begin(str(source.path), last - first)
    recipe = describe_recipe(source, settled.plan, model, options, (first, last))
    making = describe_making(source.path, recipe, model, options.resume)
    origin = source.clock.seconds(first) if first else Fraction(0)
    sound = source.has_audio and options.audio
    mute = ("images and YUV4MPEG hold no sound: left out",) if sound and not can_hold_sound(target) else ()
    with (
        source.open_audio() if sound and not mute else nullcontext() as audio,
        open_sink(target, picture, audio, options.sink, origin, making) as sink,
        settled.scratch(None if str(target) == STDOUT else Path(target)) as scratch,
    ):

        def give(span: tuple[int, int]) -> Iterator[np.ndarray]:
            if workers is None:
                return decode_frames(source, model, settled.plan, span, scratch, shares.watch)
            return decode_in_segments(source, model, settled.plan, span, workers, target)

        begin, said = find_first_to_write(sink, access, model, first)
        try:
            write_frames(sink, source.clock, give, (first, begin, last), shares)
        except Differs:
            sink.restart()
            said = (OTHERS,)
            write_frames(sink, source.clock, give, (first, first, last), shares)
    return DecodeResult(
        target=Path(target),
        frames=last - first,
        width=picture.width,
        height=picture.height,
        seconds=perf_counter() - began,
        notices=(*describe_times(source), *settled.notices, *alone, *said, *mute, *sink.notices),
    )


def refuse_target(source: LatentReader, target: Path | str, options: DecodeOptions) -> None:
    """Raise UsageError where `target` may not be written, or not gone on with."""
    if str(target) != STDOUT and not Path(target).is_dir():
        refuse_same(source.path, Path(target))
        refuse_existing(Path(target), options.force)
        refuse_foreign(Path(target), FILM)
        if not is_folder(target):  # folders are made
            refuse_unwritable(Path(target))
    if options.resume and (str(target) == STDOUT or not is_folder(target)):
        raise UsageError(
            f"{parameter('resume')}: {target} is a film, which cannot be gone on with",
            "decode into a folder of images, frames/",
        )


def describe_times(source: LatentReader) -> Iterator[str]:
    """A notice where no video tells when the frames are shown."""
    if source.header.source.origin == LATENTS:
        rate = float(source.clock.average_rate)
        yield f"latents without a video: times are made, {rate:g} frames per second"


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


def find_first_to_write(
    sink: VideoSink, access: Access, model: Model, first: int
) -> tuple[int, tuple[str, ...]]:
    """The frame to decode from, where `sink` has some of those from `first` on, and what is to be said of it.

    The last of them, a window full, are decoded again, to be compared.
    """
    if not isinstance(sink, ImageSink) or not (sink.why_not or sink.there):
        return first, ()
    if sink.why_not:
        return first, (f"begun again: {sink.why_not}",)
    if not access.is_anywhere:
        sink.restart()
        return first, (endless(model),)
    kept = f"{sink.there} frames of an earlier run are kept"
    return first + max(0, sink.there - access.step * model.spec.grid.time), (kept,)


def write_frames(
    sink: VideoSink,
    clock: FrameClock,
    give: Callable[[tuple[int, int]], Iterator[np.ndarray]],
    span: tuple[int, int, int],
    shares: Shares,
) -> None:
    """Write frames [begin, last) of (first, begin, last) = `span`; those before are there already."""
    first, begin, last = span
    for n in range(first, begin):
        sink.pass_over(int(clock.pts[n]), clock.duration_of(n))
    with closing(give((begin, last))) as frames:
        for n, rgb in enumerate(frames, start=begin):
            sink.write(rgb, int(clock.pts[n]), clock.duration_of(n))
            shares.written(n + 1 - first)


def describe_recipe(
    source: LatentReader, plan: Plan, model: Model, options: DecodeOptions, span: tuple[int, int]
) -> dict[str, object]:
    """All that decides over the images that are made of a file, but for the machine."""
    return {
        "part": source.part,
        "model": model.spec.name,
        "weights": model.weights_sha256,
        "settings": dict(model.spec.settings),
        "dtype": model.runtime.dtype_name,
        "plan": asdict(plan),
        "span": span,
        "sink": asdict(options.sink),
    }


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
    check_spec(source, model.spec)
    header = source.header
    if header.weights_sha256 and model.weights_sha256 and header.weights_sha256 != model.weights_sha256:
        raise UsageError(
            f"{source.path}: made with other weights ({header.weights_sha256[:12]}…) "
            f"than {model.spec.name} has here ({model.weights_sha256[:12]}…)",
            f"give the weights it was made with by {parameter('weights')}",
        )


def check_spec(source: LatentReader, spec: ModelSpec) -> None:
    """Raise UsageError where these latents have other channels than those of a model, or another grid."""
    header = source.header
    if source.shape[1] != spec.channels or header.grid != spec.grid:
        raise UsageError(
            f"{source.path}: made by {header.model} ({source.shape[1]} channels), "
            f"{spec.name} has {spec.channels}",
            f"decode with {parameter('model')} {header.model}",
        )


def can_hold_sound(target: Path | str) -> bool:
    """Whether what is written to `target` can hold sound: films can, images and YUV4MPEG cannot."""
    return str(target) != STDOUT and not is_folder(target)
