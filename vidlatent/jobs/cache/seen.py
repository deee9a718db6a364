"""Which of many things came before, in a few bytes each."""

from hashlib import blake2b

import numpy as np

_YOUNG = 1 << 16  # that are held as they came, before they are sorted
_HASH_BYTES = 16  # so long that two of different things are never equal


class SeenBefore:
    """Remembers things by 16 bytes of their hash: those that came last in a set, older ones in sorted arrays.

    An array is joined with the one before it once it has grown as long, so there are only a few.
    """

    def __init__(self) -> None:
        self._young: set[bytes] = set()
        self._old: list[np.ndarray] = []

    def add(self, thing: object) -> bool:
        """Remember a thing; whether it is new. Things are equal where their `repr` is."""
        digest = blake2b(repr(thing).encode(), digest_size=_HASH_BYTES).digest()
        short = digest.rstrip(b"\0")  # as NumPy gives it back
        if short in self._young or any(_holds(array, short) for array in self._old):
            return False
        self._young.add(short)
        if len(self._young) >= _YOUNG:
            self._sort()
        return True

    def _sort(self) -> None:
        array = np.sort(np.array(list(self._young), f"S{_HASH_BYTES}"))
        self._young.clear()
        while self._old and len(self._old[-1]) <= len(array):
            array = np.sort(np.concatenate([self._old.pop(), array]))
        self._old.append(array)


def _holds(array: np.ndarray, digest: bytes) -> bool:
    place = np.searchsorted(array, np.bytes_(digest))
    return bool(place < len(array) and array[place] == digest)
