"""For tools that look for one cache for every file, by a name that follows from the file's own."""

from collections.abc import Hashable, Iterable

from vidlatent.errors import UsageError
from vidlatent.jobs.cache.scan import MEMBER
from vidlatent.jobs.exchange.piece import Piece
from vidlatent.jobs.exchange.tool import Export


def name_by_file(piece: Piece) -> tuple[Hashable, Iterable[str]]:
    """The file's path; there is no other name to choose."""
    return piece.identity, (str(piece.folder / piece.file.name),)


def refuse_others(export: Export, tool: str) -> None:
    """Raise UsageError where a clip is a span of a file, or lies in a tar."""
    for piece in export.pieces:
        wrong = "in a tar" if MEMBER in piece.row.source else "a span of its file" if piece.is_part else ""
        if wrong:
            raise UsageError(
                f"{piece.row.source}: the clip is {wrong}, and {tool} looks for one cache for each file",
                "cut the videos into files of their own first",
            )
