"""Sorts more lines than memory can hold: in runs that are sorted one by one, and merged as they are read."""

import pickle
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from heapq import merge
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Self

from vidlatent.files import naming_disk_errors, naming_read_errors

Line = tuple[str, str, bool, str]  # name, key, whether the name was done with it, and the line itself
RUN_CHARACTERS = 32 << 20  # of lines that are sorted at once: about twice as many bytes
_BLOCK_LINES = 64  # of each run, that are held while runs are merged


class LineSorter:
    """Lines by name; those of one name in the order in which they were added. A context manager.

    The runs lie in a temporary file in `folder`, which has no name, so that a kill leaves nothing of it. They
    are compressed, as lines of one cache say nearly the same: to a seventh, where it was measured.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: list[
            list[tuple[int, int]]
        ] = []  # of each run its blocks: where each begins, how long it is
        with naming_disk_errors(folder):
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  see __exit__

    def add(self, lines: Iterable[Line]) -> int:
        """Take lines in, and return how many there were."""
        held: list[Line] = []
        count = characters = 0
        for line in lines:
            held.append(line)
            count += 1
            characters += len(line[3])
            if characters > RUN_CHARACTERS:
                self._write_run(held)
                characters = 0
        self._write_run(held)
        return count

    def _write_run(self, lines: list[Line]) -> None:
        """Write these lines as a run, and forget them."""
        lines.sort(key=itemgetter(0))
        self._runs.append([])
        with naming_disk_errors(self._folder):
            for begin in range(0, len(lines), _BLOCK_LINES):
                block = zlib.compress(pickle.dumps(lines[begin : begin + _BLOCK_LINES]), 1)
                self._runs[-1].append((self._file.tell(), len(block)))
                self._file.write(block)
        lines.clear()

    def merge(self, before: Iterable[Line] = ()) -> Iterator[Line]:
        """All lines by name, after those of `before` that have the same name, which is sorted already."""
        return merge(before, *map(self._read_run, self._runs), key=itemgetter(0))

    def _read_run(self, blocks: list[tuple[int, int]]) -> Iterator[Line]:
        for begin, length in blocks:
            with naming_read_errors(self._folder):
                self._file.seek(begin)
                block = self._file.read(length)
            yield from pickle.loads(zlib.decompress(block))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._file.close()
