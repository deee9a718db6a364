"""Pack: a `.latent` becomes one that is as small as a budget allows."""

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vidlatent.engine.model import Model
from vidlatent.errors import UsageError, VidlatentError, parameter
from vidlatent.files import refuse_existing, refuse_foreign, refuse_same
from vidlatent.io.latent.header import LatentHeader
from vidlatent.io.latent.reader import LatentReader, open_latent
from vidlatent.io.latent.writer import LATENT
from vidlatent.io.read.intake import Opener
from vidlatent.io.read.source import ReadOptions, open_video
from vidlatent.jobs.decode import choose_model
from vidlatent.jobs.models import ModelChoice
from vidlatent.jobs.progress import SILENT, Progress
from vidlatent.jobs.repack import LOSSLESS, Repacked, check_repacked, describe_repacked, write_as
from vidlatent.jobs.small.budget import PACKED, Budget, refuse_full
from vidlatent.jobs.small.packing import Packing
from vidlatent.jobs.small.trial import Frames
from vidlatent.jobs.storing import name_store
from vidlatent.models import hub, registry


@dataclass(frozen=True)
class PackOptions:
    """What packing may cost, and what it is measured with.

    `source` is the video that the latents were made of, read as it was then, which `open_source` opens: here,
    or in another process; `choice` is the model, by default the one that the file names.
    """

    budget: Budget = field(default_factory=Budget)
    source: Path | None = None
    read: ReadOptions = field(default_factory=ReadOptions)
    choice: ModelChoice = field(default_factory=ModelChoice)
    force: bool = False
    open_source: Opener = open_video

    def frames(self) -> Frames | None:
        """What begins the source anew; None where there is none."""
        video = self.source
        return None if video is None else lambda: read_frames(video, self.read, self.open_source)


def pack(
    source: Path | str,
    target: Path | str,
    options: PackOptions | None = None,
    progress: Progress = SILENT,
    model: Model | None = None,
) -> Repacked:
    """Write the latents of the `.latent` at `source` into `target`, packed, with all that is beside them.

    `target` appears when it is complete, and says what was measured. It is read again before this returns.
    """
    source, target, options = Path(source), Path(target), options or PackOptions()
    refuse_same(source, target)
    refuse_existing(target, options.force)
    refuse_foreign(target, LATENT)
    with open_latent(source) as latents:
        refuse_unfit(latents)
        packing = Packing.of(
            latents, model or find_decoder(latents, options.choice), options.frames(), progress
        )
        write_packed(latents, target, packing, options.budget, progress=progress)
        before = name_store(latents.form, latents.dtype)
    sizes = source.stat().st_size, target.stat().st_size
    return Repacked(target, before, PACKED, *sizes, packing.notices)


def write_packed(
    latents: LatentReader,
    target: Path,
    packing: Packing,
    budget: Budget,
    header: LatentHeader | None = None,
    progress: Progress = SILENT,
) -> None:
    """Find the form that a budget allows, write `target` in it, and read that again."""
    form = packing.find_form(budget)
    write_as(latents, target, form, header or describe_repacked(latents), progress)
    check_repacked(latents, target)


def read_frames(video: Path, read: ReadOptions, open_source: Opener = open_video) -> Generator[np.ndarray]:
    """The frames [H, W, 3] of a video from its beginning."""
    with open_source(video, read) as source:
        for frame in source.frames():
            yield frame.rgb


def refuse_unfit(latents: LatentReader) -> None:
    """Raise UsageError for latents that have lost something already, or that are stored with a logvar."""
    if latents.form not in LOSSLESS:
        raise UsageError(
            f"{latents.path}: stored as {latents.form}, which has lost something already",
            f"encode it again with {parameter('store')} {PACKED}, or keep it as it is",
        )
    if latents.has_logvar:
        refuse_full("full", f"{latents.path}: ")


def find_decoder(latents: LatentReader, choice: ModelChoice) -> Model | None:
    """The model that decodes these latents; None where it is not at hand, and nobody says where it is.

    Nothing is fetched that nobody has asked for.
    """
    chosen, named = choice.model is not None or choice.weights is not None, latents.header.model
    known = registry.find(named) if named in registry.names() else None
    if not chosen and known is not None and known.hub is not None and not hub.here(known.hub):
        return None
    try:
        return choose_model(latents, choice)
    except VidlatentError:
        if chosen:
            raise
        return None
