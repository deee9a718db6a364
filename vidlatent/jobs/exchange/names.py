"""Every clip of an export gets a name, and keeps it when the cache has grown and is exported again."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, count
from pathlib import Path, PurePosixPath

from vidlatent.io.sources.urls import find_common_folder
from vidlatent.jobs.cache.manifest import ManifestRow
from vidlatent.jobs.cache.scan import MEMBER
from vidlatent.jobs.exchange.piece import Naming, Piece

Known = Mapping[tuple, tuple[str, int]]  # by the identity of a clip: its name and number in an earlier export


def give_names(pieces: Iterable[Piece], naming: Naming, known: Known) -> list[Piece]:
    """The pieces with names and numbers: those that are known, and others that are still free."""
    pieces = list(pieces)
    asked = [naming(piece) for piece in pieces]
    names: dict[Hashable, str] = {}
    for piece, (subject, _) in zip(pieces, asked, strict=True):
        if piece.identity in known:
            names.setdefault(subject, known[piece.identity][0])
    taken = {name for name, _ in known.values()}
    numbers = count(1 + max((number for _, number in known.values()), default=-1))
    given = []
    for piece, (subject, wishes) in zip(pieces, asked, strict=True):
        if subject not in names:
            names[subject] = next(name for name in _endless(wishes) if name not in taken)
            taken.add(names[subject])
        number = known[piece.identity][1] if piece.identity in known else next(numbers)
        given.append(replace(piece, name=names[subject], number=number))
    return given


def _endless(wishes: Iterable[str]) -> Iterator[str]:
    """The wishes, and then the last one with numbers: for copies of one file under one name."""
    wishes = list(wishes)
    return chain(wishes, (f"{wishes[-1]}-{n}" for n in count(2)))


def find_root(rows: Iterable[ManifestRow]) -> Path:
    """The folder that all sources lie in; of members of tars, the tars."""
    folders = [str(Path(row.source.partition(MEMBER)[0]).parent) for row in rows]
    return find_common_folder(folders)


def find_folder(row: ManifestRow, root: Path) -> PurePosixPath:
    """The folder of a source below `root`; of one outside it, all folders that lead there.

    Whoever makes a tar decides over the names in it, so nothing of them leads out of the export.
    """
    archive, member, inside = row.source.partition(MEMBER)
    folder = Path(inside if member else archive).parent
    below = folder.relative_to(root) if folder.is_relative_to(root) else folder.relative_to(folder.anchor)
    return PurePosixPath(*(part for part in below.parts if part != ".."))
