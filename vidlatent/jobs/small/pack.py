"""Pack: a `.latent`, or a video, becomes a `.latent` that is as small as a budget allows."""

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vidlatent.engine.model import Model
from vidlatent.errors import UsageError, VidlatentError, parameter
from vidlatent.files import partial_path, refuse_existing, refuse_foreign, refuse_same
from vidlatent.io.coded.packed import Packed
from vidlatent.io.latent.reader import LatentReader, open_latent
from vidlatent.io.latent.writer import LATENT
from vidlatent.io.read.intake import Opener
from vidlatent.io.read.source import ReadOptions, open_video
from vidlatent.jobs.decode import choose_model
from vidlatent.jobs.encode import EncodeOptions, EncodeResult, encode
from vidlatent.jobs.models import ModelChoice
from vidlatent.jobs.progress import SILENT, Progress
from vidlatent.jobs.repack import LOSSLESS, Repacked, check_repacked, describe_repacked, write_as
from vidlatent.jobs.small.budget import Budget, Packing
from vidlatent.jobs.storing import name_store
from vidlatent.models import hub, registry

PACKED = Packed.name


@dataclass(frozen=True)
class PackOptions:
    """What packing may cost, and what it is measured with.

    `source` is the video that the latents were made of, read as it was then; `choice` the model, by default
    the one that the file names.
    """

    budget: Budget = field(default_factory=Budget)
    source: Path | None = None
    read: ReadOptions = field(default_factory=ReadOptions)
    choice: ModelChoice = field(default_factory=ModelChoice)
    force: bool = False


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
        decoder = model or find_decoder(latents, options.choice)
        video = options.source
        frames = None if video is None else lambda: read_frames(video, options.read)
        packing = Packing.of(latents, decoder, frames, progress)
        form = packing.find_form(options.budget)
        write_as(latents, target, form, describe_repacked(latents), progress)
        check_repacked(latents, target)
        before = name_store(latents.form, latents.dtype)
    sizes = source.stat().st_size, target.stat().st_size
    return Repacked(target, before, PACKED, *sizes, packing.notices)


def encode_packed(  # noqa: PLR0913  what `encode` takes, and a budget
    source: Path | str,
    target: Path | str,
    model: Model,
    options: EncodeOptions,
    budget: Budget,
    progress: Progress = SILENT,
    open_source: Opener = open_video,
) -> EncodeResult:
    """Encode a video into floats beside `target`, and pack them; `options.store` is of no importance.

    The source is read again to measure what that costs. A pipe gives its frames once, so there a bound is
    kept that needs no source.
    """
    target = Path(target)
    refuse_full(options.posterior)
    refuse_existing(target, options.force)
    refuse_foreign(target, LATENT)
    floats = partial_path(target.with_name(f"{target.stem}.floats.latent"))
    try:
        made = encode(source, floats, model, replace(options, store=None, force=True), progress, open_source)
        again = Path(source) if Path(source).is_file() or Path(source).is_dir() else None
        wanted = PackOptions(budget, again, options.read, force=options.force)
        packed = pack(floats, target, wanted, progress, model)
    finally:
        floats.unlink(missing_ok=True)
    return replace(made, target=target, bytes=packed.bytes, notices=(*made.notices, *packed.notices))


def read_frames(video: Path, read: ReadOptions) -> Generator[np.ndarray]:
    """The frames [H, W, 3] of a video from its beginning."""
    with open_video(video, read) as source:
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


def refuse_full(posterior: str, where: str = "") -> None:
    """Raise UsageError where mean and logvar are wanted, which are stored as floats."""
    if posterior == "full":
        raise UsageError(
            f"{where}{parameter('posterior')} full is stored as floats, not as {PACKED}",
            f"take {parameter('posterior')} mode, or {parameter('store')} bf16",
        )


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
