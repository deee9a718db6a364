"""Encode, then decode: videos become files that say what was measured, packed within a budget or not."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from vidlatent.engine.model import Model
from vidlatent.errors import UsageError, parameter
from vidlatent.files import partial_path, refuse_existing, refuse_foreign, refuse_second_run
from vidlatent.io.latent.header import LatentHeader
from vidlatent.io.latent.reader import LatentReader, open_latent
from vidlatent.io.latent.writer import LATENT
from vidlatent.io.read.intake import Opener
from vidlatent.io.read.source import open_video
from vidlatent.jobs.encode import EncodeOptions, EncodeResult, encode
from vidlatent.jobs.progress import SILENT, Progress
from vidlatent.jobs.repack import write_as
from vidlatent.jobs.small.base import describe_base
from vidlatent.jobs.small.budget import Budget, refuse_full
from vidlatent.jobs.small.pack import PackOptions, pack, read_frames
from vidlatent.jobs.small.trial import Trial
from vidlatent.jobs.storing import choose_form


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
    refuse_full(options.posterior)
    options = replace(options, store=None, pack=False)
    with encode_aside(source, Path(target), model, options, progress, open_source) as made:
        again = Path(source) if is_rereadable(source) else None
        wanted = PackOptions(budget, again, options.read, force=options.force, open_source=open_source)
        packed = pack(made.target, target, wanted, progress, model)
    return replace(made, target=Path(target), bytes=packed.bytes, notices=(*made.notices, *packed.notices))


def encode_measured(
    source: Path | str,
    target: Path | str,
    model: Model,
    options: EncodeOptions,
    progress: Progress = SILENT,
    open_source: Opener = open_video,
) -> EncodeResult:
    """Encode a video, decode it, and keep in its file how near that comes to the source.

    A later repack needs no source then to say what it costs.
    """
    if not is_rereadable(source):
        raise UsageError(
            f"{parameter('measure')}: {source} can be read only once", "give a file, or leave it out"
        )
    target, form = Path(target), choose_form(options.store, options.pack, model.runtime.dtype_name)
    with (
        encode_aside(source, target, model, options, progress, open_source) as made,
        open_latent(made.target) as latents,
    ):
        again = partial(read_frames, Path(source), options.read, open_source)
        header, said = measure_base(latents, Trial(latents, model, again, progress))
        write_as(latents, target, form, header, progress)
    return replace(made, target=target, bytes=target.stat().st_size, notices=(*made.notices, said))


@contextmanager
def encode_aside(
    source: Path | str,
    target: Path,
    model: Model,
    options: EncodeOptions,
    progress: Progress,
    open_source: Opener,
) -> Iterator[EncodeResult]:
    """Encode a video into floats beside `target`, as computed, which are there while the block runs."""
    refuse_existing(target, options.force)
    refuse_foreign(target, LATENT)
    floats = partial_path(target.with_name(f"{target.stem}.floats.latent"))
    plain = replace(options, store=None, pack=False, force=True)
    with refuse_second_run(target):
        try:
            yield encode(source, floats, model, plain, progress, open_source)
        finally:
            floats.unlink(missing_ok=True)


def measure_base(latents: LatentReader, trial: Trial) -> tuple[LatentHeader, str]:
    """The header of latents that also says how near they come to their source, and the same in words."""
    base = trial.measure_base()
    header = replace(latents.header, extra={**latents.header.extra, **describe_base(trial.spans, base)})
    return header, f"decoded, {trial.frames} frames have a PSNR of {base.psnr:.2f} dB against the source"


def is_rereadable(source: Path | str) -> bool:
    """Whether a source can be read more than once: pipes cannot."""
    return Path(source).is_file() or Path(source).is_dir()
