"""One entry of a cache: the task to make it, the making, and the rows that tell of it."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vidlatent.engine.model import Model
from vidlatent.errors import BadInput, VidlatentError, flag, parameter
from vidlatent.files import sha256_file
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.read.source import ReadOptions, VideoSource
from vidlatent.jobs.cache.key import describe_read
from vidlatent.jobs.cache.manifest import DONE, FAILED, OF_CLIP, ManifestRow
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.jobs.cache.scan import Clip
from vidlatent.jobs.encode import FrameTimes, append_all, finish_header, make_header, open_writer
from vidlatent.jobs.progress import SILENT
from vidlatent.jobs.reading.survey import FileState, get_file_state


@dataclass(frozen=True)
class Task:
    """One entry to make: a clip, or a span of one, and the recipe with all that depends on the clip decided.

    `error` says why there is no point in trying. `recipe_id` names the recipe of the whole run.
    """

    clip: Clip
    recipe: Recipe
    recipe_id: str
    key: str = ""
    source_sha256: str = ""
    error: VidlatentError | None = None
    state: FileState = None  # of the file, when it was hashed

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
            facts=dict(self.clip.facts),
            **facts,  # type: ignore[arg-type]
        )

    def make_failed_row(self, error: VidlatentError, seconds: float = 0.0) -> ManifestRow:
        """The row of a clip that failed. Its error names parameters as the command line does."""
        return self.make_row(FAILED, error=error.text(flag), seconds=round(seconds, 3))

    def copy_row(self, row: ManifestRow) -> ManifestRow:
        """The row of an entry made of the same bytes by the same recipe, told of this clip."""
        mine = self.make_row(row.status)
        return replace(row, **{name: getattr(mine, name) for name in OF_CLIP})


def make_entry(video: VideoSource, task: Task, target: Path, model: Model) -> None:
    """Encode an open video into its entry.

    An entry is a pure function of its key, so its header calls the source by its hash, not by a file name.
    """
    options = task.recipe.options()
    header = make_header(video, task.source_sha256, model, options)
    settings = model.spec.changed(latents=True)  # others are not in the key
    header = replace(header, extra={"cache_key": task.key}, settings=settings)
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_writer(target, header, video, model, options) as writer:
        tally = FrameTimes(SILENT)
        frames = tally.watch(video.frames())
        count = append_all(
            writer, model.encode_clip(frames, options.plan, video.info.counted_frames), options
        )
        clock = tally.clock(video.info.time_base)
        header = finish_header(header, clock, count, task.source_sha256)
        refuse_changed(task)
        writer.close(clock, None, header)


def refuse_changed(task: Task) -> None:
    """Raise BadInput where the file is no longer the one whose bytes are in the key."""
    if task.state is not None and get_file_state(task.clip.path) != task.state:
        raise BadInput(
            f"{task.clip.name}: changed while it was read", f"run again with {parameter('retry_failed')}"
        )


def make_done_row(task: Task, path: Path, seconds: float = 0.0, notices: tuple[str, ...] = ()) -> ManifestRow:
    """The row of a finished entry, with facts that are read from its file."""
    with open_latent(path) as latents:
        source = latents.header.source
        return task.make_row(
            DONE,
            shape=latents.shape,
            dtype=latents.dtype,
            frames=source.frames,
            width=source.width,
            height=source.height,
            bytes=path.stat().st_size,
            checksum=sha256_file(path),
            seconds=round(seconds, 3),
            notices=notices,
            model=latents.header.model,
            threads=torch.get_num_threads() if latents.header.device_kind == "cpu" else 0,
        )
