"""export.json: what an export wrote, so that it can go on when the cache has grown."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vidlatent.errors import BadInput, UsageError, parameter
from vidlatent.files import replace_on_close
from vidlatent.jobs.exchange.piece import Piece
from vidlatent.printable import encode_text

NAME = "export.json"
FORMAT = "vidlatent-export"
VERSION = 1


@dataclass(frozen=True)
class Written:
    """A clip of an export: what it is called there, its number, the key of its entry, and its file."""

    source: str
    span: tuple
    name: str
    number: int
    key: str
    file: str

    @classmethod
    def of(cls, piece: Piece, file: str) -> "Written":
        """A piece that is written into `file`."""
        row = piece.row
        return cls(row.source, row.span, piece.name, piece.number, row.key, file)

    @property
    def identity(self) -> tuple:
        """That of its piece."""
        return self.source, self.span


@dataclass(frozen=True)
class Record:
    """All of an export: for whom, in which space, where the names of a tree begin, and what was written."""

    word: str
    space: str | None
    root: str
    split_by_shape: bool = False
    lists: tuple[str, ...] = ()
    clips: tuple[Written, ...] = field(default=())

    @classmethod
    def read(cls, folder: Path) -> "Record | None":
        """The record in a folder; None where there is none."""
        path = folder / NAME
        if not path.exists():
            return None
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            if (said.pop("format"), said.pop("version")) != (FORMAT, VERSION):
                raise ValueError("another format or version")
            clips = tuple(Written(**{**clip, "span": tuple(clip["span"])}) for clip in said.pop("clips"))
            return cls(**{**said, "lists": tuple(said["lists"])}, clips=clips)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise BadInput(f"{path}: not the record of an export ({e})", "export into a new folder") from e

    def write(self, folder: Path) -> None:
        """Put the record into a folder, in place of one that says something else."""
        said: Mapping[str, object] = {"format": FORMAT, "version": VERSION, **asdict(self)}
        data = encode_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n")
        path = folder / NAME
        if path.is_file() and path.read_bytes() == data:
            return
        with replace_on_close(path) as partial:
            partial.write_bytes(data)

    def refuse_other(self, other: "Record", folder: Path) -> None:
        """Raise UsageError where this record is of another kind of export than `other`."""
        for what, mine, theirs in (
            ("for", self.word, other.word),
            ("in the space", self.space, other.space),
            ("split by shape:", self.split_by_shape, other.split_by_shape),
        ):
            if mine != theirs:
                raise UsageError(
                    f"{folder}: holds an export {what} {mine}, not {theirs}",
                    f"give the same options as then, or a new folder by {parameter('output')}",
                )
