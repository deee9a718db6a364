"""Encode: a video becomes a `.latent`, with one window in memory at a time."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from vidlatent.clock import FrameClock
from vidlatent.engine.access import Access
from vidlatent.engine.demand import Workload
from vidlatent.engine.load import load_model
from vidlatent.engine.memory import Fit, settle
from vidlatent.engine.model import Model
from vidlatent.engine.stream import has_frames, skip
from vidlatent.engine.tilewise import Again, Tilewise
from vidlatent.errors import BadVideo, UsageError, parameter
from vidlatent.files import (
    partial_path,
    refuse_existing,
    refuse_foreign,
    refuse_same,
    refuse_unwritable,
)
from vidlatent.io.journal import Differs, Making
from vidlatent.io.latent.header import POSTERIORS, LatentHeader, Pad, Source
from vidlatent.io.latent.writer import LATENT, LatentWriter
from vidlatent.io.picture.facts import MOST_PX
from vidlatent.io.read.ffmpeg import STDIN
from vidlatent.io.read.intake import Opener, take_in
from vidlatent.io.read.source import (
    RawFrames,
    ReadOptions,
    VideoInfo,
    VideoSource,
    check_reading,
    describe_reading,
    open_video,
)
from vidlatent.io.sound.copy import copy_audio
from vidlatent.io.write.movie import FORMATS
from vidlatent.io.write.sink import IMAGES
from vidlatent.jobs.passes import FrameTimes, Passes, passing_by
from vidlatent.jobs.progress import SILENT, Progress
from vidlatent.jobs.resume import BEGINNING, OTHERS, Entry, describe_making, find_entry
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
from vidlatent.jobs.storing import check_store, choose_form
from vidlatent.models.base import Posterior
from vidlatent.prefetch import prefetch
from vidlatent.quantities import to_bytes
from vidlatent.windows import Plan

__all__ = [
    "EncodeOptions", "EncodeResult", "RawFrames", "ReadOptions", "check_reading", "encode", "load_model",
    "open_video",
]  # fmt: skip
READ_AHEAD_FRAMES = 8
OTHER_SUFFIXES = (*FORMATS, *IMAGES, ".avi", ".gif", ".jpg", ".jpeg", ".ts", ".webp", ".y4m")


@dataclass(frozen=True)
class EncodeOptions:
    """What to read, how to cut it, what of the posterior to keep, and how.

    `posterior` is "mode", "sample" (drawn with `seed`) or "full" (mean and logvar). `store` is the
    dtype of the latents on disk, by default the one they were computed in, or "int8"; with `pack` floats take
    less, and lose nothing. `max_memory` is "4G" or bytes;
    None lets a model that is not exact use what the machine has free. `resume` goes on with what an earlier
    run by the same options has left where it was killed, and leaves what there is where this one is.
    `workers` share a clip that can be entered in the middle; what they make is the same.
    """

    read: ReadOptions = field(default_factory=ReadOptions)
    plan: Plan | None = None
    posterior: str = "mode"
    seed: int = 0
    store: str | None = None
    audio: bool = True
    max_memory: int | str | None = None
    force: bool = False
    resume: bool = False
    workers: Workers | None = None
    pack: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_memory", to_bytes(self.max_memory))
        if self.posterior not in POSTERIORS:
            raise UsageError(
                f"{parameter('posterior')} {self.posterior}: unknown", f"one of {', '.join(POSTERIORS)}"
            )
        check_store(self.store, self.pack, self.posterior)
        if not 0 <= self.seed < 1 << 64:
            raise UsageError(f"{parameter('seed')} {self.seed}: expected 0 to {(1 << 64) - 1}")


@dataclass(frozen=True)
class EncodeResult:
    """What came of encoding one clip; `shape` is that of the latents, [t, C, h, w]."""

    target: Path
    frames: int
    shape: tuple[int, int, int, int]
    bytes: int
    seconds: float
    audio_packets: int
    notices: tuple[str, ...]


def encode(
    source: Path | str,
    target: Path | str,
    model: Model | None = None,
    options: EncodeOptions | None = None,
    progress: Progress = SILENT,
    open_source: Opener = open_video,
) -> EncodeResult:
    """Encode one video, image or folder of frames into `target`, which appears when it is complete.

    A pipe is a source as well, and "-" is stdin. A source that changes meanwhile is an error: the hash that
    is kept is that of the bytes that were read. Without a model the bundled one is loaded. `open_source`
    opens the source: here, or in another process as `IsolatedReader.open` does.
    """
    model, options, target = model or load_model(), options or EncodeOptions(), Path(target)
    check_before_loading(source, target, options.force)
    began = perf_counter()
    with take_in(source, options.read, open_source) as taken, taken.open() as video:
        work = describe_work(video, options.read, taken.rereadable)
        limit = share_memory(options.max_memory, options.workers)
        settled = settle(model, options.plan or model.spec.plan, work, limit)
        header = make_header(video, taken.name, model, replace(options, plan=settled.plan))
        progress.begin(str(source), expect_frames(video, options.read))
        making = describe_making(source, describe_recipe(header, options), model, options.resume)
        with open_writer(target, header, video, model, options, making) as writer:
            passes = Passes(video, taken.open)
            run = Run(model, settled, options, progress, Path(taken.path), target)
            clock, count, said = run.write_or_go_on(writer, video.info, passes, work)
            header = finish_header(header, clock, count, taken.sha256())
            with copy_audio_aside(taken.path, clock, target, options) as (audio, packets):
                taken.refuse_changed()
                writer.close(clock, audio, header)
        return EncodeResult(
            target=target,
            frames=len(clock),
            shape=(count, *compute_latent_size(video, model)),
            bytes=target.stat().st_size,
            seconds=perf_counter() - began,
            audio_packets=packets,
            notices=(*taken.notices, *settled.notices, *said, *video.notices),
        )


def check_before_loading(source: Path | str, target: Path, force: bool = False) -> None:
    """Raise what can be known to be wrong before weights are loaded, or fetched."""
    path = Path(source)
    if str(source) != STDIN and not path.exists():
        raise BadVideo(f"{source}: no such file", "check the path")
    if path.suffix == ".latent":
        raise BadVideo(f"{source}: holds latents already", "give a video; decode makes one of latents")
    refuse_same(path, target)
    refuse_existing(target, force)
    refuse_foreign(target, LATENT)
    if target.suffix.lower() in OTHER_SUFFIXES:
        raise UsageError(
            f"{target}: what encode writes is no {target.suffix[1:].upper()}",
            f"name it {target.stem}.latent; decode makes videos of latents",
        )
    refuse_unwritable(target)


def check_opening(source: Path | str, read: ReadOptions) -> None:
    """Open a file as it will be read, so that a stream or crop that it has not is said before any dear work.

    A pipe gives its bytes once, and is left alone.
    """
    if str(source) != STDIN and Path(source).is_file():
        with open_video(source, read):
            pass


@dataclass(frozen=True)
class Run:
    """All that decides how a clip goes through the encoder and into a file."""

    model: Model
    settled: Fit
    options: EncodeOptions
    progress: Progress
    source: Path
    target: Path

    def write_or_go_on(
        self, writer: LatentWriter, info: VideoInfo, passes: Passes, work: Workload
    ) -> tuple[FrameClock, int, tuple[str, ...]]:
        """Write all latents that are not there yet; the clip's clock, their number, and what must be said."""
        access = Access.to_encoder(self.model, self.settled.plan, info.height, info.width)
        entry, said = find_entry(writer, access, self.model)
        workers, alone = choose_workers(self.options.workers, access, work.rereadable, self.settled.passes)
        if workers is None:
            write = partial(self.write, writer, info, passes)
        else:
            latents = work.frames and self.model.spec.grid.latents(work.frames)
            length = choose_length(access, len(workers.devices), latents)
            write = partial(self.write_in_segments, writer, info, passes, length)
        try:
            return *write(entry), (*alone, *said)
        except Differs:
            writer.restart()
            return *write(BEGINNING), (*alone, OTHERS)

    def write(
        self, writer: LatentWriter, info: VideoInfo, passes: Passes, entry: Entry
    ) -> tuple[FrameClock, int]:
        """Write the latents from an entry of the clip on; gives its clock, and the number of all latents.

        Raises Differs where those that were there are others.
        """
        start = entry.begin * self.model.spec.grid.time
        tally = FrameTimes(self.progress, self.settled.passes, start)
        with self.settled.scratch(self.target) as scratch, closing(passes):
            frames = Again(lambda: tally.watch(passes.read()))
            tilewise = scratch and Tilewise(scratch)
            windows = self.model.encode_clip(frames, self.settled.plan, info.counted_frames, tilewise, start)
            count = append_all(writer, windows, self.options, entry)
        return tally.clock(info.time_base), count

    def write_in_segments(
        self, writer: LatentWriter, info: VideoInfo, passes: Passes, length: int, entry: Entry
    ) -> tuple[FrameClock, int]:
        """The same by segments of so many latents, which other processes make. Here only times are read."""
        tally, first = FrameTimes(SILENT), entry.sure // length
        entry = Entry(first * length, entry.sure)
        with closing(passes), keep_segments(self.target) as folder:
            task = Task(self.source, folder, self.settled.plan, length, self.options.read)
            with (
                passing_by(tally.watch(passes.read())) as end,
                Pool(task, self.options.workers, self.model) as pool,
            ):
                count = append_each(writer, self._moments(pool, first, length), self.options, entry)
                end()
        return tally.clock(info.time_base), count

    def _moments(self, pool: Pool, first: int, length: int) -> Iterator[Tensor]:
        """Moments [1, 2C, t, h, w] of all segments from number `first` on."""
        count = first * length
        for done, path in pool.segments(first=first):
            for several in read_items(done, path):
                yield torch.from_numpy(several).transpose(0, 1)[None]
                count += len(several)
                self.progress.frames(self.model.spec.grid.frames(count))
            if done.items < length:
                return


def append_all(
    writer: LatentWriter, windows: Iterable[Tensor], options: EncodeOptions, entry: Entry = BEGINNING
) -> int:
    """Write the latents of every window's posterior; returns the number of latent frames.

    The windows are those from an entry of the clip on. Raises Differs where latents are there already, and
    others than these.
    """
    with closing(prefetch(windows, depth=1)) as ahead:  # the network runs while this thread writes
        return append_each(writer, ahead, options, entry)


def append_each(writer: LatentWriter, windows: Iterable[Tensor], options: EncodeOptions, entry: Entry) -> int:
    """Do what `append_all` does, in this thread alone."""
    count = entry.begin
    for moments in filter(has_frames, skip(windows, entry.sure - entry.begin)):
        count = max(count, entry.sure)
        posterior = Posterior.of(moments)
        sampled = options.posterior == "sample"
        latents = posterior.sample(options.seed, start=count) if sampled else posterior.mode()
        logvar = put_time_first(posterior.logvar) if options.posterior == "full" else None
        writer.append(put_time_first(latents), logvar, count)
        count += latents.shape[2]
    if count < writer.frames:
        raise Differs
    return count


def put_time_first(latents: Tensor) -> Tensor:
    """[1, C, t, h, w] → [t, C, h, w]."""
    return latents[0].transpose(0, 1)


def open_writer(
    target: Path,
    header: LatentHeader,
    video: VideoSource,
    model: Model,
    options: EncodeOptions,
    making: Making | None = None,
) -> LatentWriter:
    """Open a writer for the latents of this clip."""
    form = choose_form(options.store, options.pack, model.runtime.dtype_name)
    return LatentWriter(
        target, header, *compute_latent_size(video, model), form, options.posterior == "full", making
    )


def describe_recipe(header: LatentHeader, options: EncodeOptions) -> dict[str, object]:
    """What decides over the latents of a source, but for the machine: what the header says, and the form."""
    packed = {"pack": True} if options.pack else {}
    return {**header.to_metadata(), "store": options.store, **packed}


def compute_latent_size(video: VideoSource, model: Model) -> tuple[int, int, int]:
    """C, h, w of the latents of this clip."""
    space = model.spec.grid.space
    return model.spec.channels, -(-video.info.height // space), -(-video.info.width // space)


def make_header(video: VideoSource, name: str, model: Model, options: EncodeOptions) -> LatentHeader:
    """All that can be said of the latents before the clip has been read; it calls the source `name`."""
    spec, info = model.spec, video.info
    refuse_large(info)
    with naming_facts(name):
        return LatentHeader(
            model=spec.name,
            weights_sha256=model.weights_sha256,
            config=spec.config,
            grid=spec.grid,
            plan=options.plan,
            source=Source(name, 0, info.width, info.height),
            pad=Pad(0, spec.grid.missing_pixels(info.height), spec.grid.missing_pixels(info.width)),
            posterior=options.posterior,
            seed=options.seed if options.posterior == "sample" else None,
            scale=spec.scale,
            shift=spec.shift,
            compute_dtype=model.runtime.dtype_name,
            device_kind=model.runtime.device.type,
            exactness="stream-equals-whole" if spec.exact else "reference-windows",
            settings=spec.changed(),
            picture={**info.picture().to_json(), "reading": describe_reading(info, options.read)},
        )


def refuse_large(info: VideoInfo) -> None:
    """Raise BadVideo for pictures, cut and scaled as asked, of which no file of latents can say the size."""
    if max(info.width, info.height) > MOST_PX:
        raise BadVideo(
            f"{info.path}: {info.width}x{info.height}, and no side may have more than {MOST_PX} pixels",
            f"cut it by {parameter('crop')}, or make it smaller by {parameter('size')}",
        )


@contextmanager
def naming_facts(name: str) -> Iterator[None]:
    """Turn what a header cannot say of a source into an error about that source."""
    try:
        yield
    except ValueError as e:
        raise BadVideo(
            f"{name}: {e}", "what the file says of itself cannot be kept: repair its header, or convert it"
        ) from e


def finish_header(
    header: LatentHeader, clock: FrameClock, latents: int, source_sha256: str | None
) -> LatentHeader:
    """The header with what is known only at the end: how many frames and latents, and the source's hash."""
    frames = len(clock)
    return replace(
        header,
        source=replace(header.source, frames=frames, sha256=source_sha256),
        pad=replace(header.pad, frames=header.grid.frames(latents) - frames),
    )


def describe_work(video: VideoSource, read: ReadOptions, rereadable: bool = False) -> Workload:
    """What this clip asks of a network; `rereadable` says that it can be opened again and again."""
    frames = video.info.counted_frames or guess_frame_count(video, read)
    return Workload(video.info.height, video.info.width, frames, rereadable=rereadable)


def expect_frames(video: VideoSource, read: ReadOptions) -> int | None:
    """How many frames to show as the total; where the header counts none, it is told by duration and rate."""
    length, rate = video.info.header_duration, read.fps or video.info.average_rate
    known = guess_frame_count(video, read)
    if length is None or not rate or (known is not None and not read.frames):
        return known
    end = length if read.end is None else min(length, read.end)
    frames = max(1, round((end - max(read.start or 0, 0)) * rate))
    return min(frames, read.frames or frames)


def guess_frame_count(video: VideoSource, read: ReadOptions) -> int | None:
    """How many frames to expect, as far as options and header tell; None where nobody can say."""
    return read.frames or (None if read.start or read.end or read.fps else video.info.header_frames)


@contextmanager
def copy_audio_aside(
    source: Path | str, clock: FrameClock, target: Path, options: EncodeOptions
) -> Iterator[tuple[Path | None, int]]:
    """Copy the source's audio into a file that lasts as long as the block; the file, and its packets."""
    if not options.audio or options.read.raw or not Path(source).is_file():
        yield None, 0
        return
    path, read = partial_path(target.with_suffix(".mka")), options.read
    begin = clock.seconds(0) if read.start is not None else None
    cut = read.end is not None or read.frames is not None
    try:
        packets = copy_audio(Path(source), path, begin, clock.end if cut else None)
        yield (path if packets else None), packets
    finally:
        path.unlink(missing_ok=True)
