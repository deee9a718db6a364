"""Patterns of names, as a shell has them: `clips/**/*.mp4`. Links are followed; a folder is entered once."""

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from glob import glob, has_magic
from pathlib import Path

ANYWHERE = "**"  # as a whole part of a pattern: any number of folders


def find_files(pattern: str) -> list[Path]:
    """Every file that a pattern names, sorted."""
    parts = Path(pattern).parts
    if ANYWHERE not in parts:
        return sorted(path for path in map(Path, glob(pattern)) if path.is_file())
    plain = next(n for n, part in enumerate(parts) if has_magic(part))
    base, rest = Path(*parts[:plain]), parts[plain:]
    hidden = any(part.startswith(".") for part in rest)
    return sorted(base.joinpath(*names) for names in _walk(base, hidden) if fits(names, rest))


def _walk(base: Path, hidden: bool) -> Iterator[tuple[str, ...]]:
    """The parts of every file's name below a folder. Python's own `glob` goes round in circles of links."""
    entered: set[tuple[int, int]] = set()
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        folder = waiting.pop()
        try:
            found = os.stat(base.joinpath(*folder))
            entries = (
                [] if (found.st_dev, found.st_ino) in entered else list(os.scandir(base.joinpath(*folder)))
            )
        except OSError:  # as glob does: what cannot be read matches nothing
            continue
        entered.add((found.st_dev, found.st_ino))
        for entry in entries:
            if os.path.isdir(entry.path):  # which is no error where a link leads to itself
                waiting += [(*folder, entry.name)] if hidden or not entry.name.startswith(".") else []
            elif os.path.isfile(entry.path):
                yield *folder, entry.name


def fits(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether the parts of a name fit those of a pattern. Only a part that says so matches hidden names."""
    if patterns[-1] == ANYWHERE:
        patterns = [*patterns, "*"]
    reached = {0}  # how many names fit the patterns so far
    for pattern in patterns:
        if pattern == ANYWHERE:
            reached = {n for first in reached for n in _skip_folders(names, first)}
        else:
            reached = {n + 1 for n in reached if n < len(names) and _matches(names[n], pattern)}
    return len(names) in reached


def _skip_folders(names: Sequence[str], first: int) -> Iterator[int]:
    """Where one may be after any number of folders that are not hidden."""
    yield first
    for n in range(first, len(names)):
        if names[n].startswith("."):
            return
        yield n + 1


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) and (pattern.startswith(".") or not name.startswith("."))
