"""What has been written of a file or folder that is not complete yet, so that a later run can go on with it.

The journal of an unfinished `NAME` is `.NAME.journal.partial` beside it: a text of JSON lines. The first
says by which facts `NAME` is made, each of the others what one more piece of it is, by SHA-256. So nothing
has to be flushed to disk on the way: what is not there as it was written is found, and made again.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from vidlatent.errors import OutOfResources, VidlatentError
from vidlatent.files import naming_disk_errors, partial_path

FORMAT = 1
_DIGITS = 64  # of a SHA-256 in hexadecimal


@dataclass(frozen=True)
class Piece:
    """One piece of what is written: how many items there are with it, and the SHA-256 of its parts.

    `beside` is what must be known of it that lies in none of its parts, as text.
    """

    count: int
    digests: tuple[str, ...]
    beside: str = ""

    def spell(self) -> list[object]:
        """The line of the journal about it."""
        return [self.count, *self.digests, *([{"beside": self.beside}] if self.beside else [])]


@dataclass(frozen=True)
class Making:
    """How something is made: by which facts, in groups that have a name, and whether an earlier run may be
    gone on with."""

    facts: Mapping[str, Mapping[str, object]]
    resume: bool = False


def is_final(error: BaseException) -> bool:
    """Whether what was made up to this error is of no use to a later run: then it is removed."""
    return isinstance(error, VidlatentError) and not isinstance(error, OutOfResources)


class Differs(Exception):
    """What is made now is not what an earlier run has written in the same place."""


class Journal:
    """The journal of an unfinished `target`. Whoever reads or writes it holds the lock of that.

    Without facts about how the target is made no journal is kept: nobody will go on with it. `why_not` says
    why there is nothing to go on with, where there was an earlier run.
    """

    def __init__(self, target: Path, making: Making | None) -> None:
        self._making = making or Making({})
        self.is_kept = making is not None
        self._path = partial_path(target.with_name(f"{target.name}.journal"))
        self._file: TextIO | None = None
        self.why_not: str | None = None

    def read(self) -> list[Piece]:
        """The pieces of an earlier run by the same facts, in order; none where it cannot be gone on with."""
        if not self._making.resume:
            return []
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        except OSError as e:
            self.why_not = f"the journal of an earlier run cannot be read ({e.strerror or e})"
            return []
        whole = [line for line in lines if line.endswith("\n")]
        self.why_not = self._compare(_parse(whole[0]) if whole else None)
        pieces: list[Piece] = []
        for line in whole[1:] if self.why_not is None else ():
            piece = _parse_piece(_parse(line))
            if piece is None or piece.count <= (pieces[-1].count if pieces else 0):
                break
            pieces.append(piece)
        return pieces

    def begin(self, pieces: Iterable[Piece] = ()) -> None:
        """Write the journal anew, with the pieces that were found to be there."""
        self.close()
        with naming_disk_errors(self._path):
            self._path.unlink(missing_ok=True)
            if not self.is_kept:
                return
            self._file = self._path.open("x", encoding="utf-8")
            self._write({"journal": FORMAT, **self._making.facts})
            for piece in pieces:
                self._write(piece.spell())
            self._file.flush()

    def add(self, piece: Piece) -> None:
        """Note a piece that has been written, if a journal is kept."""
        if not self.is_kept:
            return
        with naming_disk_errors(self._path):
            self._write(piece.spell())
            self._file.flush()

    def close(self) -> None:
        """Close the journal; it stays."""
        if self._file is not None:
            with suppress(OSError):  # a full disk refuses the last line again; it is not needed
                self._file.close()
            self._file = None

    def remove(self) -> None:
        """Remove the journal: there is nothing to go on with any more."""
        self.close()
        with suppress(OSError):  # one that stays says nothing of what the next run finds
            self._path.unlink(missing_ok=True)

    def _write(self, line: object) -> None:
        self._file.write(json.dumps(line) + "\n")

    def _compare(self, found: object) -> str | None:
        """Why what was begun is not what is to be made now; None where it is."""
        if not isinstance(found, dict) or found.get("journal") != FORMAT:
            return "what an earlier run left does not say how it was made"
        for group, facts in json.loads(json.dumps(self._making.facts)).items():
            theirs = found.get(group)
            if not isinstance(theirs, dict):
                return f"what an earlier run left says nothing of its {group}"
            differing = sorted(name for name in facts | theirs if facts.get(name) != theirs.get(name))
            if differing:
                return f"the {group} has changed since an earlier run ({', '.join(differing)})"
        return None


def _parse(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _parse_piece(found: object) -> Piece | None:
    if not isinstance(found, list) or len(found) < 2:
        return None
    beside = found.pop() if isinstance(found[-1], dict) else {}
    count, *digests = found
    good = type(count) is int and all(isinstance(text, str) and len(text) == _DIGITS for text in digests)
    return Piece(count, tuple(digests), str(beside.get("beside", ""))) if good and digests else None
