"""Peek: what a `.latent` holds, at a glance, without the network that made it."""

from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from time import perf_counter

import numpy as np

from vidlatent.clock import FrameClock
from vidlatent.engine import pixels
from vidlatent.engine.model import Model
from vidlatent.errors import UsageError, parameter
from vidlatent.files import refuse_existing, refuse_foreign, refuse_same, refuse_unwritable
from vidlatent.io.file_parts import FilePart
from vidlatent.io.latent.reader import LatentReader, open_latent
from vidlatent.io.picture.info import Picture
from vidlatent.io.picture.resample import resize, to_square_pixels
from vidlatent.io.write.movie import FILM
from vidlatent.io.write.sheet import SHEET, SheetSink
from vidlatent.io.write.sink import STDOUT, VideoSink, is_folder, open_sink
from vidlatent.jobs.decode import can_hold_sound, refuse_film
from vidlatent.jobs.models import ModelChoice
from vidlatent.jobs.picture import read_picture
from vidlatent.jobs.progress import SILENT, Progress
from vidlatent.jobs.viewer import Viewer, viewer_for

USUAL_PICTURES, MOST_PICTURES = 24, 240  # of a sheet
THUMB_PX, FILM_PX = 224, 480  # longer sides of small pictures: of a sheet, of a film of colours
LEAD = 4  # latents that a tiny model sees before the one shown, where those between are left out


@dataclass(frozen=True)
class PeekOptions:
    """`every`: a picture for every so many latents.

    None: of a sheet, as many as give USUAL_PICTURES; of a film, every frame, or every latent of colours.
    """

    every: int | None = None
    force: bool = False


@dataclass(frozen=True)
class PeekResult:
    """What was made of one file of latents; `shown_by` is the tiny model, or what else showed them."""

    target: Path
    pictures: int
    width: int
    height: int
    shown_by: str
    seconds: float
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timing:
    """Which frames of a clip of `frames` frames its latents stand for, `time` each.

    The first latents of most models stand for fewer: `missing` is how many come short.
    """

    frames: int
    latents: int
    time: int
    missing: int

    @classmethod
    def of(cls, source: LatentReader) -> "Timing":
        """From the header of a file."""
        grid, t = source.header.grid, source.frames
        return cls(source.header.source.frames, t, grid.time, t * grid.time - grid.frames(t))

    @property
    def shown(self) -> int:
        """How many latents stand for any frame of the clip; what was padded may have given more."""
        return min(self.latents, -(-(self.frames + self.missing) // self.time))

    def last_frame(self, latent: int) -> int:
        """The last frame of the clip that a latent stands for."""
        return min(self.time * (latent + 1) - self.missing, self.frames) - 1


def peek(
    source: Path,
    target: Path | str,
    choice: ModelChoice | None = None,
    options: PeekOptions | None = None,
    progress: Progress = SILENT,
) -> PeekResult:
    """Show a `.latent` as a contact sheet (a .png), or as a quick film at the source's own times.

    A tiny model that stands in for the one that made the latents shows them, else colours that were fitted to
    them; see viewer.viewer_for. Nothing of the model itself is loaded.
    """
    options, began = options or PeekOptions(), perf_counter()
    refuse_film(source)
    if options.every is not None and options.every < 1:
        raise UsageError(f"{parameter('every')} {options.every}: must be at least 1")
    if str(target) != STDOUT and not Path(target).is_dir():
        refuse_same(source, Path(target))
        refuse_existing(Path(target), options.force)
        refuse_foreign(Path(target), SHEET if is_sheet(target) else FILM)
        if is_sheet(target) or not is_folder(target):  # folders are made
            refuse_unwritable(Path(target))
    with open_latent(source) as latents:
        viewer = viewer_for(latents, choice or ModelChoice())
        plan = plan_sheet if is_sheet(target) else plan_film
        show = plan(latents, viewer, options)
        notices = write(latents, target, show, progress)
    return PeekResult(
        target=Path(target),
        pictures=len(show.numbers),
        width=show.picture.width,
        height=show.picture.height,
        shown_by=viewer.name,
        seconds=perf_counter() - began,
        notices=notices,
    )


@dataclass(frozen=True)
class Show:
    """Pictures to be written, [height, width, 3] uint8, made when asked for; and their numbers as frames."""

    picture: Picture
    numbers: Sequence[int]
    pictures: Iterator[np.ndarray]


def is_sheet(target: Path | str) -> bool:
    """Whether this name asks for a contact sheet."""
    return Path(target).suffix.lower() == ".png" and not Path(target).is_dir()


def plan_sheet(source: LatentReader, viewer: Viewer, options: PeekOptions) -> Show:
    """Choose small pictures, evenly spread, at most as many as a sheet may hold."""
    timing = Timing.of(source)
    chosen = range(0, timing.shown, options.every or -(-timing.shown // USUAL_PICTURES))
    if len(chosen) > MOST_PICTURES:
        raise UsageError(
            f"{parameter('every')} {options.every}: gives {len(chosen)} pictures, "
            f"a sheet holds {MOST_PICTURES}",
            f"give {-(-timing.shown // MOST_PICTURES)} or more, or make a film",
        )
    picture = reduce(read_picture(source), THUMB_PX)
    return plan_latents(source, viewer, chosen, picture)


def plan_film(source: LatentReader, viewer: Viewer, options: PeekOptions) -> Show:
    """Choose every frame at full size, where a tiny model can make them; else one picture per latent."""
    timing, picture = Timing.of(source), replace(read_picture(source), bit_depth=8)
    if viewer.tiny and options.every is None:
        return Show(picture, range(timing.frames), make_frames(source, viewer, picture))
    chosen = range(0, timing.shown, options.every or 1)
    return plan_latents(source, viewer, chosen, picture if viewer.tiny else reduce(picture, FILM_PX))


def plan_latents(source: LatentReader, viewer: Viewer, chosen: range, picture: Picture) -> Show:
    """Show one picture of each chosen latent: the last frame that it stands for."""
    timing = Timing.of(source)
    numbers = [timing.last_frame(latent) for latent in chosen]
    return Show(picture, numbers, make_pictures(source, viewer, chosen, picture))


def make_pictures(
    source: LatentReader, viewer: Viewer, chosen: range, picture: Picture
) -> Iterator[np.ndarray]:
    """Make one picture of each chosen latent. Where they are far apart those between are not decoded.

    A tiny model then begins a little before, so that it has a past to look at: its nine blocks each look back
    one latent, and with random weights four come within 2 % of what all of them give.
    """
    full = source.header.source
    model = viewer.show_latents(full_size=(picture.width, picture.height) == (full.width, full.height))
    lead = LEAD if viewer.tiny else 0
    near = chosen.step <= lead + 1
    runs = [(0, chosen[-1] + 1)] if near else [(max(0, n - lead), n + 1) for n in chosen]
    for start, stop in runs:
        for n, rgb in enumerate(decode_latents(source, viewer, model, start, stop), start):
            if n in chosen:
                yield fit(rgb, source, picture)


def make_frames(source: LatentReader, viewer: Viewer, picture: Picture) -> Iterator[np.ndarray]:
    """Make every frame of the clip."""
    timing = Timing.of(source)
    frames = decode_latents(source, viewer, viewer.show_frames(), 0, timing.shown)
    for rgb in islice(frames, timing.missing, timing.missing + timing.frames):
        yield fit(rgb, source, picture)


def decode_latents(
    source: LatentReader, viewer: Viewer, model: Model, start: int, stop: int
) -> Iterator[np.ndarray]:
    """Give the pictures [H, W, 3] uint8 that `model` makes of latents [start, stop), at its own size."""
    ready = (viewer.make_ready(source.read_checked(n, n + 1)) for n in range(start, stop))
    for video in model.decode_stream(ready):
        for frame in video.split(1, dim=2):
            yield pixels.to_frames(frame, *frame.shape[3:])[0]


def fit(rgb: np.ndarray, source: LatentReader, picture: Picture) -> np.ndarray:
    """Bring a picture of whole latents to the size of `picture`, and cut off what padding filled."""
    space, full = source.header.grid.space, source.header.source
    height, width = (side * space for side in source.shape[2:])
    scaled = round(width * picture.width / full.width), round(height * picture.height / full.height)
    return resize(rgb, scaled)[: picture.height, : picture.width]


def reduce(picture: Picture, side: int) -> Picture:
    """Describe the picture in square pixels and 8 bits, its longer side at most `side`, both of them even."""
    square = to_square_pixels(picture)
    scale = min(1, side / max(square.width, square.height))
    width, height = (max(2, 2 * round(length * scale / 2)) for length in (square.width, square.height))
    return replace(square, width=width, height=height, bit_depth=8)


def write(source: LatentReader, target: Path | str, show: Show, progress: Progress) -> tuple[str, ...]:
    """Write the pictures, each at its frame's own time until that of the next; and the sound, in a film.

    Returns what must be said of what was written.
    """
    progress.begin(str(source.path), len(show.numbers))
    sound = source.has_audio and not is_sheet(target) and can_hold_sound(target)
    with (
        source.open_audio() if sound else nullcontext() as audio,
        open_show(target, show, audio) as sink,
        closing(show.pictures) as pictures,
    ):
        for i, rgb in enumerate(pictures):
            n = show.numbers[i]
            after = show.numbers[i + 1] if i + 1 < len(show.numbers) else None
            sink.write(rgb, int(source.clock.pts[n]), count_ticks(source.clock, n, after))
            progress.frames(i + 1)
    return tuple(sink.notices)


def open_show(target: Path | str, show: Show, audio: FilePart | None) -> VideoSink:
    """Open what the pictures are written into."""
    if is_sheet(target):
        return SheetSink(Path(target), show.picture, len(show.numbers))
    return open_sink(target, show.picture, audio)


def count_ticks(clock: FrameClock, n: int, after: int | None) -> int:
    """Count the ticks from frame `n` until the next that is shown, or until the clip's end."""
    if after == n + 1 or n + 1 == len(clock):
        return clock.duration_of(n)
    stop = clock.pts[after] if after is not None else clock.pts[-1] + clock.last_duration
    return int(stop - clock.pts[n])
