"""An export that is all planned, and the writing of it."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from vidlatent.durable import make_folder
from vidlatent.errors import UsageError
from vidlatent.files import naming_disk_errors, partial_path, replace_on_close
from vidlatent.jobs.exchange.checks import Say, name_shape
from vidlatent.jobs.exchange.piece import Piece
from vidlatent.jobs.exchange.record import Record, Written
from vidlatent.jobs.exchange.tool import Export, OutFile, Tool
from vidlatent.printable import encode_text

README = "README.md"
MOST_NAME_BYTES = 255


@dataclass(frozen=True)
class Work:
    """What is to be written: new files, and lists of all clips, those of an earlier export too.

    `groups` are the clips by the folder that they go to; `record` is what the export will be once all is
    there. `lists` may be replaced where `record` says that they are ours.
    """

    files: Sequence[OutFile]
    lists: Mapping[str, str]
    record: Record
    changed: int  # clips that were cached anew since they were exported
    index: str

    def write(self, target: Path, say: Say) -> Iterator[Path]:
        """Write all that is missing; each file of latents as it is done.

        The record goes first. So an export that was interrupted goes on where it ended.
        """
        self.record.write(target)
        there = 0
        for file in self.files:
            path = target / file.path
            if path.exists():  # of another program, whose name this is as well
                there += 1
                continue
            write_file(path, file.write)
            yield path
        if there:
            say(f"{there} files of these names were there, and are left as they are")
        if self.changed:
            say(f"{self.changed} clips were cached anew since they were exported, and are left as they were")
        yield from self._write_lists(target, say)

    def _write_lists(self, target: Path, say: Say) -> Iterator[Path]:
        left = []
        for name, text in self.lists.items():
            path, data = target / name, encode_text(text)
            there = path.read_bytes() if path.is_file() else None
            if there is not None and there != data and name not in self.record.lists:
                left.append(name)
            elif there != data:
                write_file(path, lambda partial, data=data: partial.write_bytes(data))
                if path.name == self.index:
                    yield path
        if left:
            say(f"left as they were, not being of an export: {', '.join(left[:3])}")


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Make a file, and the folders that it lies in."""
    with naming_disk_errors(path):
        make_folder(path.parent)
    with replace_on_close(path) as partial:
        write(partial)


def plan_work(export: Export, tool: Tool, target: Path, record: Record, before: Record | None) -> Work:
    """Plan all files of an export; `before` is what lies in `target` already."""
    earlier = {clip.identity: clip for clip in (before.clips if before else ())}
    kept = {identity: clip for identity, clip in earlier.items() if (target / clip.file).is_file()}
    groups = group_by_folder(export)
    files = [
        file for folder, group in groups.items() for file in plan_group(folder, group, tool, target, kept)
    ]
    refuse_taken(files, kept)
    refuse_long(files)
    written = [Written.of(piece, file.path) for file in files for piece in file.pieces]
    clips = sorted((*kept.values(), *written), key=lambda clip: clip.number)
    places = {clip.identity: clip.file for clip in clips}
    lists = {
        join(folder, name): text
        for folder, group in groups.items()
        for name, text in tool.lists(
            replace(group, files={p.identity: below(folder, places[p.identity]) for p in group.pieces})
        ).items()
    }
    lists[README] = describe_folder(export, tool)
    ours = {name for name in lists if not (target / name).exists()} | set(before.lists if before else ())
    record = replace(record, lists=tuple(sorted(ours)), clips=tuple(clips))
    changed = sum(p.identity in kept and kept[p.identity].key != p.row.key for p in export.pieces)
    return Work(files, lists, record, changed, tool.index)


def group_by_folder(export: Export) -> dict[str, Export]:
    """The clips by the folder below the target that they go to: one for each shape, or "" for all."""
    found: dict[str, list[Piece]] = defaultdict(list)
    for piece in export.pieces:
        found[name_shape(piece) if export.options.split_by_shape else ""].append(piece)
    return {
        name: replace(export, pieces=tuple(held), every=tuple(held)) for name, held in sorted(found.items())
    }


def plan_group(
    folder: str, group: Export, tool: Tool, target: Path, kept: Mapping[tuple, Written]
) -> Iterator[OutFile]:
    """The files of those clips of a group that are not there yet."""
    place = target / folder
    taken = frozenset(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
    missing = tuple(piece for piece in group.pieces if piece.identity not in kept)
    for file in tool.plan(replace(group, pieces=missing, taken=taken)):
        yield replace(file, path=join(folder, file.path))


def refuse_taken(files: Sequence[OutFile], kept: Mapping[tuple, Written]) -> None:
    """Raise UsageError where two clips would lie under one name."""
    owners = {clip.file: clip.identity for clip in kept.values()}
    for file in files:
        piece = file.pieces[0]
        other = owners.setdefault(file.path, piece.identity)
        if other != piece.identity:
            raise UsageError(
                f"{piece.row.source}: a clip of it would be {file.path}, and so would one of {other[0]}",
                "rename one of the videos, or leave one of the clips out",
            )


def refuse_long(files: Sequence[OutFile]) -> None:
    """Raise UsageError where a name is longer than a disk takes, while the file is written as well."""
    for file in files:
        name = partial_path(Path(file.path)).name
        if len(name.encode(errors="replace")) > MOST_NAME_BYTES:  # a byte that is no UTF-8 counts as one
            raise UsageError(
                f"{file.pieces[0].row.source}: a file would be {file.path}, a name too long for a disk",
                "rename the video and run the cache again, which then encodes nothing anew",
            )


def join(folder: str, name: str) -> str:
    """A name below a folder; "" is the export's own."""
    return (PurePosixPath(folder) / name).as_posix()


def below(folder: str, name: str) -> str:
    """A name as it is seen from a folder; the inverse of `join`."""
    return PurePosixPath(name).relative_to(folder).as_posix()


def describe_folder(export: Export, tool: Tool) -> str:
    """The README of an export: what it is, and what is to be done next."""
    said = (export.vae.name, export.options.space or (export.needs.space if export.needs.models else ""))
    lines = [
        f"# Latents for {export.word}",
        "",
        f"{len(export.pieces)} clips of a latent cache, encoded by {', '.join(filter(None, said))}.",
        "The command that made this folder, with `--update`, adds what the cache has gained since.",
        "",
    ]
    if export.options.split_by_shape:
        lines.append("Each folder WIDTHxHEIGHTxFRAMES is a data set of its own; what follows is for each.")
    return "\n".join([*lines, *tool.steps(export)]) + "\n"
