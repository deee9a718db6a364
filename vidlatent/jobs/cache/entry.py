"""One entry of a cache: the task to make it, the making, and the rows that tell of it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vidlatent.clock import FrameClock
from vidlatent.durable import make_folder
from vidlatent.engine.model import Model
from vidlatent.errors import BadInput, OutOfResources, VidlatentError, flag, parameter
from vidlatent.file_state import State
from vidlatent.files import naming_disk_errors, naming_read_errors, partial_path, sha256_file
from vidlatent.grid import Grid
from vidlatent.io.latent.header import LatentHeader
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.io.read.source import Frame, ReadOptions, VideoSource
from vidlatent.jobs.cache.first_frame import FirstFrame
from vidlatent.jobs.cache.frames import CUT, PAD, GridKeeper
from vidlatent.jobs.cache.key import describe_read
from vidlatent.jobs.cache.manifest import DONE, FAILED, OF_CLIP, SKIPPED, ManifestRow
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.jobs.cache.scan import Clip
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.encode import (
    EncodeOptions,
    FrameTimes,
    append_all,
    finish_header,
    make_header,
    open_writer,
)
from vidlatent.jobs.progress import SILENT

CUT_KEY = "cache_cut"  # in a header: how many frames of the clip were left out at its end


@dataclass(frozen=True)
class Task:
    """One entry to make: a clip, or a span of one, and the recipe with all that depends on the clip decided.

    `error` says why there is no point in trying, `left_out` why the recipe wants no such clip. `recipe_id`
    names the recipe of the whole run. `key` is that of a clip whose frames fit the model's `grid`, and
    `off_grid_key` that of one whose frames do not: which of them it is shows when the frames are counted.
    `first_frame` is the number of the clip's first frame in the video; of fewer frames than `wanted` no entry
    is made.
    """

    clip: Clip
    recipe: Recipe
    recipe_id: str
    key: str = ""
    source_sha256: str = ""
    error: VidlatentError | None = None
    state: State = None  # of the file, when it was hashed
    off_grid_key: str = ""
    grid: Grid | None = None
    first_frame: int = 0
    wanted: int | None = None
    left_out: str = ""

    @property
    def read(self) -> ReadOptions:
        """What to read of the clip."""
        return self.recipe.read

    def make_row(self, status: str, **facts: object) -> ManifestRow:
        """A row about this clip, with more facts about its entry."""
        read = self.read
        start, end = (None if t is None else str(t) for t in (read.start, read.end))
        return ManifestRow(
            source=self.clip.name,
            recipe=self.recipe_id,
            span=(start, end, read.frames),
            status=status,
            key=self.key,
            source_sha256=self.source_sha256,
            read=describe_read(read),
            first_frame=self.first_frame,
            facts=dict(self.clip.facts),
            **facts,  # type: ignore[arg-type]
        )

    def make_failed_row(self, error: VidlatentError, seconds: float = 0.0) -> ManifestRow:
        """The row of a clip that failed. Its error names parameters as the command line does."""
        return self.make_row(FAILED, error=error.text(flag), seconds=round(seconds, 3))

    def make_left_out_row(self, why: str) -> ManifestRow:
        """The row of a clip that the recipe leaves out. Its key says that its frames were counted."""
        task = replace(self, key=self.off_grid_key if not self.left_out else "")
        return task.make_row(SKIPPED, error=f"{self.clip.name}: {why}")

    def holds_padding(self, row: ManifestRow) -> bool:
        """Whether an entry has frames at its end that the clip has not."""
        known = self.grid is not None and row.shape
        return bool(known) and self.grid.frames(row.shape[0]) != row.frames

    def copy_row(self, row: ManifestRow) -> ManifestRow:
        """The row of an entry made of the same bytes by the same recipe, told of this clip."""
        mine = self.make_row(row.status)
        return replace(row, **{name: getattr(mine, name) for name in OF_CLIP})


@dataclass(frozen=True)
class Made:
    """An entry that was made: its key, where it lies, and how many frames were left out at the clip's end."""

    key: str
    path: Path
    cut: int = 0

    @property
    def floats(self) -> Path:
        """Where its latents lie as they were computed while it is found out how to store them."""
        return partial_path(self.path.with_name(f"{self.key}.floats.latent"))


@dataclass(frozen=True)
class Encoded:
    """An entry whose latents are all written, and whose file has yet to be completed.

    Where the recipe wants something measured, that is the file of its `floats` alone: see `measured.py`.
    """

    task: Task
    made: Made
    writer: LatentWriter
    clock: FrameClock
    header: LatentHeader

    @property
    def needs_network(self) -> bool:
        """Whether the network has more to do for this entry, so that it cannot have the next clip yet."""
        return self.task.recipe.first_frame or self.task.recipe.is_measured

    def close(self) -> None:
        """Complete the file, flush it to disk, and give it its name."""
        path = self.made.floats if self.task.recipe.is_measured else self.made.path
        with self.writer:
            self.writer.close(self.clock, None, self.header, path)


def encode_entry(
    video: VideoSource,
    task: Task,
    store: Store,
    model: Model,
    watch: Callable[[Iterator[np.ndarray]], Iterator[np.ndarray]] = iter,
) -> Encoded:
    """Encode an open video, and write its latents; raises LeftOut where the recipe wants no such clip.

    The entry is there once what is returned was closed. `watch` sees the frames [H, W, 3] pass by on their
    way to the network.
    An entry is a pure function of its key, so its header calls the source by its hash, not by a file name.
    """
    options, target = choose_noise(task.recipe.options(), task), store.entry_path(task.key)
    if task.recipe.is_measured:
        options = replace(options, store=None, pack=False)
    header = make_header(video, task.source_sha256, model, options)
    header = replace(header, extra={"cache_key": task.key}, settings=model.spec.changed(latents=True))
    make_entry_folder(target)
    with ExitStack() as stack:
        writer = stack.enter_context(open_writer(target, header, video, model, options))
        tally, keeper = FrameTimes(SILENT), GridKeeper(options.plan.encode_time, model.spec.grid, task.wanted)
        frames, known = keep_frames(video, task.recipe.frames_rule, keeper)
        first = FirstFrame()
        watched = watch(first.watch(tally.watch(frames)))
        count = append_all(writer, model.encode_clip(watched, options.plan, known), options)
        if task.recipe.first_frame:
            writer.add_first_frame(first.encode(model, options.plan, count))
        clock = tally.clock(video.info.time_base)
        header = finish_header(header, clock, count, task.source_sha256)
        made = name_entry(task, store, keeper.left)
        refuse_changed(task)
        make_entry_folder(made.path)
        stack.pop_all()  # what is returned closes the writer
    return Encoded(task, made, writer, clock, replace(header, extra=describe_made(made)))


def describe_made(made: Made) -> dict[str, str]:
    """What the file of an entry says of itself, beside what every `.latent` does."""
    return {"cache_key": made.key, **({CUT_KEY: str(made.cut)} if made.cut else {})}


def make_entry_folder(path: Path) -> None:
    """Make the folders of the entry at `path`: their names are on disk before it relies on them."""
    with naming_disk_errors(path):
        for folder in (path.parent.parent, path.parent):
            make_folder(folder)


def choose_noise(options: EncodeOptions, task: Task) -> EncodeOptions:
    """The options with a seed that belongs to this clip alone, so that no two of them share their noise."""
    return replace(options, seed=int(task.key[:16], 16)) if options.posterior == "sample" else options


def keep_frames(video: VideoSource, rule: str, keeper: GridKeeper) -> tuple[Iterator[Frame], int | None]:
    """The frames of a clip that the rule keeps, and their number where it is certain before they are read."""
    known = video.info.counted_frames
    if rule == PAD or (known is not None and keeper.fits(known)):
        return keeper.count_all(video.frames()), known
    return (keeper.cut if rule == CUT else keeper.drop)(video.frames()), None


def name_entry(task: Task, store: Store, left: int) -> Made:
    """The key and the path of an entry of whose clip so many frames were left out at the end."""
    key = task.off_grid_key if left else task.key
    return Made(key, store.entry_path(key), left)


def refuse_changed(task: Task) -> None:
    """Raise BadInput where the file is no longer the one whose bytes are in the key."""
    if task.state is not None and task.clip.source.state() != task.state:
        raise BadInput(
            f"{task.clip.name}: changed while it was read", f"run again with {parameter('retry_failed')}"
        )


def make_done_row(task: Task, made: Made, seconds: float = 0.0, notices: tuple[str, ...] = ()) -> ManifestRow:
    """The row of a finished entry, with facts that are read from its file, which must be whole."""
    path = made.path
    with _blaming_disk(path), open_latent(path) as latents, naming_read_errors(path):
        source, said = latents.header.source, latents.header.extra.get(CUT_KEY, "")
        cut = int(said) if said.isdecimal() else 0
        if cut:
            left = "1 frame" if cut == 1 else f"{cut} frames"
            notices = (*notices, f"{left} at the end left out, to fit the model's grid")
        return replace(task, key=made.key).make_row(
            DONE,
            shape=latents.shape,
            dtype=latents.dtype,
            form=latents.form,
            price=latents.header.stored.get("price", {}),
            frames=source.frames,
            cut=cut,
            width=source.width,
            height=source.height,
            bytes=path.stat().st_size,
            checksum=sha256_file(path),
            seconds=round(seconds, 3),
            notices=notices,
            model=latents.header.model,
            threads=torch.get_num_threads() if latents.header.device_kind == "cpu" else 0,
        )


@contextmanager
def _blaming_disk(path: Path) -> Iterator[None]:
    """Raise OutOfResources where the system does not let an entry be read: its clip is not to blame."""
    try:
        yield
    except BadInput as e:
        if not isinstance(e.__cause__, OSError):
            raise
        raise OutOfResources(
            f"{path}: is written, but cannot be read ({e.__cause__.strerror})",
            "look who may read this folder, and into the system's log; then run again",
        ) from e
