"""From the latents of other programs to `.latent` files: from what a diffusion model made to a film."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from vidlatent.durable import make_folder
from vidlatent.engine.model import Model
from vidlatent.errors import BadInput, UsageError, parameter
from vidlatent.files import naming_disk_errors, refuse_existing, refuse_foreign, replace_on_close
from vidlatent.io.file_parts import FilePart
from vidlatent.io.latent.writer import LATENT
from vidlatent.jobs.exchange.comfyui import refuse_cosmos
from vidlatent.jobs.exchange.foreign import COMFYUI, Foreign, read_foreign
from vidlatent.jobs.exchange.needs import NEEDS, Needs, split_words
from vidlatent.jobs.exchange.record import Record
from vidlatent.jobs.exchange.vaes import Vae
from vidlatent.jobs.models import ModelChoice
from vidlatent.jobs.readback.catalog import CatalogEntry, list_tar_shard
from vidlatent.jobs.save import (
    RAW,
    BareLatents,
    check_space,
    find_spec,
    make_raw,
    parse_rate,
    put_in_order,
    write_latents,
)
from vidlatent.models.base import ModelSpec

SUFFIX = ".latent"
LEVELS = 4  # of folders above a file, where an export may have left its record


@dataclass(frozen=True)
class ImportOptions:
    """What a file does not say itself: whose latents it holds, at which rate, in which space and order.

    What is None is as the file's layout says it. The model is loaded only where its weights are named: for
    latents whose normalisation is in the weights.
    """

    choice: ModelChoice = field(default_factory=ModelChoice)
    fps: Fraction | None = None
    space: str | None = None
    axes: str | None = None
    force: bool = False


@dataclass(frozen=True)
class Imported:
    """A `.latent` that was written; `shape` is that of the latents, [t, C, h, w].

    Where it is not `timed`, its times are made of `fps`: no video tells them.
    """

    timed = False

    source: Path
    target: Path
    model: str
    shape: tuple[int, ...]
    frames: int
    fps: Fraction
    space: str


class TakenOut(Imported):
    """A `.latent` of ours, which has the times of its video."""

    timed = True


def import_files(
    files: Iterable[Path | str], target: Path | str, options: ImportOptions | None = None
) -> Iterator[Imported]:
    """Write every clip in `files` as a `.latent`: `target` itself, or a file in the folder of that name."""
    options = options or ImportOptions()
    if options.space is not None:
        check_space(options.space)
    model = options.choice.load() if options.choice.weights is not None else None
    target, taken = Path(target), {}
    files = [Path(file) for file in files]
    single = target.suffix == SUFFIX and not target.is_dir()
    for file in files:
        for clip in list_tar_shard(file) if file.suffix == ".tar" else read_foreign(file):
            if single and taken:
                raise UsageError(f"{target}: is one file, for several clips", "name a folder")
            packed = isinstance(clip, CatalogEntry)
            path = target if single else _name_file(target, clip.key if packed else clip.name, taken)
            taken[path] = file
            refuse_existing(path, options.force)
            refuse_foreign(path, LATENT)
            if packed:
                yield take_out(clip, path)
            else:
                yield _import_clip(complete(clip, file), file, path, options, model)


def take_out(entry: CatalogEntry, target: Path) -> Imported:
    """Copy a `.latent` out of a shard of ours: it says itself whose latents it holds."""
    offset, size = entry.part
    with entry.open() as latents, replace_on_close(target) as partial, partial.open("wb") as copy:
        latents.verify()
        with FilePart(entry.path, offset, size) as source:
            shutil.copyfileobj(source, copy)
        header, rate = latents.header, latents.clock.average_rate
    return TakenOut(entry.path, target, header.model, entry.shape, header.source.frames, rate, RAW)


def _name_file(folder: Path, name: str, taken: dict[Path, Path]) -> Path:
    """A name in the folder that no clip before has."""
    with naming_disk_errors(folder):
        make_folder(folder)
    stem, number = Path(name).name, 1
    while (path := folder / f"{stem}{'' if number == 1 else f'-{number}'}{SUFFIX}") in taken:
        number += 1
    return path


def complete(clip: Foreign, file: Path) -> Foreign:
    """The clip with what the record of an export, in a folder above its file, says of it."""
    found = map(_read_record, file.absolute().parents[:LEVELS])
    record = next((one for one in found if one is not None), None)
    if record is None:
        return clip
    tool, architecture = split_words(record.word)
    needs = NEEDS.get(tool, {}).get(architecture or "", Needs())
    own = needs.space if needs.models else clip.space
    return replace(
        clip,
        models=clip.models or needs.models,
        space=record.space or clip.space or own,
        fps=clip.fps or (1 if needs.still else needs.fps),
    )


def _read_record(folder: Path) -> Record | None:
    """The record of an export in a folder; None for none, or a file of another program that has its name."""
    with suppress(BadInput):
        return Record.read(folder)
    return None


def _import_clip(
    clip: Foreign, file: Path, target: Path, options: ImportOptions, model: Model | None
) -> Imported:
    spec = model.spec if model else choose_spec(clip, file, options)
    refuse_other(clip, file, spec)
    if clip.layout == COMFYUI:
        refuse_cosmos(Vae.of_spec(spec), options.space, str(file))
    space = options.space or clip.space or RAW
    bare, fps = make_bare(clip, file, spec, replace(options, space=space)), choose_rate(clip, file, options)
    write_latents(target, bare, spec, fps, model)
    channels, t, h, w = bare.latents.shape
    frames = bare.frames or spec.grid.frames(t)
    return Imported(file, target, spec.name, (t, channels, h, w), frames, fps, space)


def choose_spec(clip: Foreign, file: Path, options: ImportOptions) -> ModelSpec:
    """Whose latents a clip is: as told, else as its layout says; raises UsageError where nobody says it."""
    named = options.choice.model or next(iter(clip.models), None)
    if named is None:
        raise UsageError(
            f"{file}: {clip.layout} does not say whose latents it holds, {list(clip.latents.shape)}",
            f"say it, for instance {parameter('model')} wan-2.1",
        )
    return find_spec(named)


def refuse_other(clip: Foreign, file: Path, spec: ModelSpec) -> None:
    """Raise UsageError where a layout holds latents of other models than the one that is told."""
    if not Vae.of_spec(spec).is_one_of(clip.models):
        raise UsageError(
            f"{file}: {clip.layout} holds latents of {' or '.join(clip.models)}, not of {spec.name}",
            f"leave {parameter('model')} out, or name one of these",
        )


def choose_rate(clip: Foreign, file: Path, options: ImportOptions) -> Fraction:
    """Frames per second: as told, else as the layout says; a single picture needs none."""
    told = options.fps or clip.fps or (1 if _is_picture(clip) else None)
    if told is None:
        raise UsageError(
            f"{file}: {clip.layout} does not say how fast it is to be shown",
            f"say it, for instance {parameter('fps')} 24",
        )
    return parse_rate(told)


def _is_picture(clip: Foreign) -> bool:
    return clip.latents.dim() == 3 or (clip.frames == 1)


def make_bare(clip: Foreign, file: Path, spec: ModelSpec, options: ImportOptions) -> BareLatents:
    """The latents [C, t, h, w] of a clip, raw, as they are to be written."""
    name, axes = str(file), options.axes or clip.axes
    if clip.moments:
        axes = axes or ("BTCHW" if spec.grid.pairs else "BCTHW")
        mean, logvar = clip.latents.chunk(2, dim=axes.upper().index("C"))
        parts = [put_in_order(part, axes, spec, name) for part in (mean, logvar)]
    else:
        parts = [put_in_order(clip.latents, axes, spec, name)]
    latents, *logvar = parts
    return BareLatents(
        make_raw(latents, options.space or RAW, spec),
        _only_raw(logvar, options.space, name),
        *(clip.frames, clip.width, clip.height),
        name=file.name,
    )


def _only_raw(logvar: list[Tensor], space: str | None, name: str) -> Tensor | None:
    if logvar and space != RAW:
        raise UsageError(f"{name}: mean and logvar are raw", f"leave {parameter('space')} out")
    return logvar[0] if logvar else None
