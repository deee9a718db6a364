"""Repack: a `.latent` in another form. No model is needed, and no source."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vidlatent.dtypes import DTYPES
from vidlatent.errors import BadLatentFile, UsageError, parameter
from vidlatent.files import (
    naming_disk_errors,
    open_own,
    partial_path,
    refuse_existing,
    refuse_foreign,
    refuse_same,
)
from vidlatent.io.coded.chunks import SIXTEEN
from vidlatent.io.coded.form import Form
from vidlatent.io.latent.header import LatentHeader, our_version
from vidlatent.io.latent.reader import LatentReader, open_latent
from vidlatent.io.latent.writer import LATENT, LatentWriter
from vidlatent.jobs.progress import SILENT, Progress
from vidlatent.jobs.storing import check_store, choose_form, name_store

LOSSLESS = ("", "planes")  # forms that give back what they were given
REPACKED = "repacked_from"  # in a header: how latents were stored before, where that had lost something


@dataclass(frozen=True)
class RepackOptions:
    """Which form is wanted: `store` and `pack` as for encoding; without `store` floats keep their dtype."""

    store: str | None = None
    pack: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        check_store(self.store, self.pack, "mode")
        if self.store is None and not self.pack:
            raise UsageError(
                f"{parameter('store')}: in which form?",
                f"say it, for instance {parameter('store')} int8, or {parameter('pack')}",
            )

    def choose_form(self, latents: LatentReader) -> Form:
        """The form for these latents; raises UsageError where they have a logvar and it knows none."""
        check_store(self.store, self.pack, latents.header.posterior)
        return choose_form(self.store, self.pack, name_dtype(latents))


@dataclass(frozen=True)
class Repacked:
    """A file that was repacked: how it was stored, how it is now, and how many bytes it took and takes.

    `notices` say what was measured, where that decided over the form.
    """

    target: Path
    before: str
    after: str
    bytes_before: int
    bytes: int
    notices: tuple[str, ...] = ()


def repack(
    source: Path | str, target: Path | str, options: RepackOptions, progress: Progress = SILENT
) -> Repacked:
    """Write the latents of the `.latent` at `source` into `target` in another form, with all that is beside.

    `target` appears when it is complete. It is read again before this returns.
    """
    source, target = Path(source), Path(target)
    refuse_same(source, target)
    refuse_existing(target, options.force)
    refuse_foreign(target, LATENT)
    with open_latent(source) as latents:
        before = name_store(latents.form, latents.dtype)
        form = options.choose_form(latents)
        write_as(latents, target, form, describe_repacked(latents), progress)
        check_repacked(latents, target)
    sizes = source.stat().st_size, target.stat().st_size
    return Repacked(target, before, name_store(form.name, form.dtype), *sizes)


def name_dtype(latents: LatentReader) -> str:
    """Our name of the dtype as which latents are read."""
    return next(name for name, dtype in DTYPES.items() if dtype.stored == latents.dtype)


def describe_repacked(latents: LatentReader) -> LatentHeader:
    """The header of these latents in another form; it says how they were stored, where that lost something.

    Nothing was lost where they are stored as they were computed.
    """
    header, name = latents.header, name_dtype(latents)
    whole = latents.form in LOSSLESS and name == header.compute_dtype
    extra = header.extra if whole else {REPACKED: name_store(latents.form, latents.dtype), **header.extra}
    return replace(header, version=our_version(), extra=extra, stored={})


def write_as(
    latents: LatentReader, target: Path, form: Form, header: LatentHeader, progress: Progress = SILENT
) -> None:
    """Write latents, and all that is beside them in their file, into `target` in a form."""
    _, *size = latents.shape
    progress.begin(str(latents.path), latents.frames)
    with (
        LatentWriter(target, header, *size, form, latents.has_logvar) as writer,
        copy_sound_aside(latents, target) as sound,  # by who has the right to write the target
    ):
        for start, stop in SIXTEEN.spans(latents.frames):
            logvar = latents.read_checked(start, stop, "logvar") if latents.has_logvar else None
            writer.append(latents.read_checked(start, stop), logvar)
            progress.frames(stop)
        if latents.has_first_frame:
            spans = SIXTEEN.spans(latents.frames)
            writer.add_first_frame(latents.read_checked(*span, "first_frame") for span in spans)
        writer.close(latents.clock, sound)


def check_repacked(latents: LatentReader, target: Path) -> None:
    """Read a file that was written of `latents`; raises BadLatentFile where it is not whole.

    Where no form on the way loses anything, the latents must be the same to the bit.
    """
    with open_latent(target) as again:
        again.verify()
        if again.form not in LOSSLESS or again.dtype != latents.dtype:
            return
        for span in SIXTEEN.spans(latents.frames):
            pair = (reader.read_checked(*span) for reader in (latents, again))
            if not torch.equal(*(values.view(torch.uint8) for values in pair)):
                raise BadLatentFile(
                    f"{target}: latent frames {span[0]} to {span[1]} are not those of {latents.path}",
                    "check the memory and the disk of this machine, and repack again",
                )


@contextmanager
def copy_sound_aside(latents: LatentReader, target: Path) -> Iterator[Path | None]:
    """Copy the sound of a `.latent` into a file that lasts as long as the block; None where there is none."""
    sound = latents.open_audio()
    if sound is None:
        yield None
        return
    path = partial_path(target.with_suffix(".mka"))
    with sound:
        with naming_disk_errors(path):
            held = open_own(path)
        try:
            with naming_disk_errors(path), os.fdopen(held, "rb+") as file:
                file.truncate()  # what a killed run has left
                shutil.copyfileobj(sound, file)
            yield path
        finally:
            path.unlink(missing_ok=True)
