"""What lies in the folders of a cache in a store, so that not every clip costs a question."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vidlatent.file_state import ObjectState
from vidlatent.jobs.cache.snapshot import hash_name


class Listings:
    """The sizes of files in folders, each of which is listed once, when somebody first asks for a file in it.

    16 bytes are kept of each file. What is not in a listing may have been put since, so it is asked for by
    itself each time; what is in it stays there, as nobody but `remove` takes files away.
    """

    def __init__(
        self,
        list_folder: Callable[[Path], Mapping[str, ObjectState | None]],
        ask: Callable[[Path], int | None],
    ) -> None:
        self._list, self._ask = list_folder, ask
        self._old: dict[Path, tuple[np.ndarray, np.ndarray]] = {}  # hashes of names, sorted, and sizes
        self._new: dict[int, int | None] = {}  # what was put since then; None: removed

    def size(self, path: Path) -> int | None:
        """The bytes of a file; None where there is none."""
        number = _number(path)
        found = self._new[number] if number in self._new else self._find(path)
        if found is None and (found := self._ask(path)) is not None:
            self._new[number] = found
        return found

    def _find(self, path: Path) -> int | None:
        if path.parent not in self._old:
            self._old[path.parent] = self._take(path.parent)
        names, sizes = self._old[path.parent]
        number = hash_name(path.name)
        place = int(np.searchsorted(names, number))
        return int(sizes[place]) if place < len(names) and names[place] == number else None

    def _take(self, folder: Path) -> tuple[np.ndarray, np.ndarray]:
        files = {name: state.size for name, state in self._list(folder).items() if state is not None}
        names = np.array([hash_name(name) for name in files], np.int64)
        order = np.argsort(names)
        return names[order], np.array(list(files.values()), np.int64)[order]

    def note(self, path: Path, size: int | None) -> None:
        """Remember that a file was put, or removed (None)."""
        self._new[_number(path)] = size


def _number(path: Path) -> int:
    return hash_name(path.as_posix())
