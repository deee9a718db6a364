"""An entropy coder: interleaved rANS over whole numbers that lie about a prediction as a logistic does.

It is our own because it must be read without a library, by the forty lines of numpy in docs/latent-format.md,
and because it is integers throughout: the coders that are kept well make their tables of floats.

What is coded is how far a number is from the one next to its prediction, at most REACH. A table says how
likely each distance is, given the scale of the logistic and by how many eighths the prediction is off. What
is too far or too unlikely to have a place in its table escapes: it is stored as it is, in the same words,
from their end.

Lanes are coders of their own, which take turns at the numbers of a plane and share the words: so numpy runs
all of them at once.
"""

from functools import cache

import numpy as np

SCALES, EIGHTHS = 32, 8
REACH = 127
ESCAPE = 2 * REACH + 1  # the last symbol; the others are distances from -REACH on
NEAR = 24  # distances about 0 that each table has a slot for: a speck where all is black must not escape
BITS = 12  # of a probability
LOW = 1 << 16  # a state is at least this, and below 2^32
_BITS, _WORD, _MASK = np.uint32([BITS, 16, (1 << BITS) - 1])
_SYMBOL, _RANK, _SLOTS = np.uint32([0xFF, 8, 20])  # of a meaning: a mask, and where its other two begin
_POINT = 30  # bits behind the point of a probability while tables are made
_DECAYS = (1072111484, 1071687821, 1071154950)  # exp(-1 / 16 s) for s = 41.13, 32.64 and 25.91


@cache
def make_starts() -> np.ndarray:
    """At which of the 2^BITS slots each symbol begins: [SCALES · EIGHTHS, ESCAPE + 2], the last one the end.

    The distances from -NEAR / 2 to NEAR / 2 - 1 have one slot at least, and so has ESCAPE. Any other symbol
    without slots is too unlikely to be coded.
    """
    decays = list(_DECAYS)  # of the largest scales; each third one is the square: half the scale
    while len(decays) < SCALES:
        decays.append(decays[-3] ** 2 >> _POINT)
    edges = 16 * np.arange(-REACH, REACH + 2)[None] - 8 + 2 * (EIGHTHS // 2 - np.arange(EIGHTHS)[:, None])
    near = np.clip(np.arange(ESCAPE + 1) - (REACH - NEAR // 2), 0, NEAR)
    starts = np.empty((SCALES, EIGHTHS, ESCAPE + 2), np.int64)
    for scale, decay in enumerate(reversed(decays)):
        tail = [1 << _POINT]  # exp(-x / s) for x of so many sixteenths
        while len(tail) <= 16 * (REACH + 2):
            tail.append(tail[-1] * decay >> _POINT)
        falls = np.array(tail)[np.abs(edges)]
        beyond = (falls << _POINT) // ((1 << _POINT) + falls)
        below = np.where(edges < 0, beyond, (1 << _POINT) - beyond)
        starts[scale, :, :-1] = near + ((below - below[:, :1]) * ((1 << BITS) - 1 - NEAR) >> _POINT)
    starts[..., -1] = 1 << BITS
    return starts.reshape(SCALES * EIGHTHS, -1)


@cache
def _make_meanings() -> np.ndarray:
    """What each slot of each table means, uint32.

    That is, from the lowest bit on, its symbol (8 bits), which of the symbol's slots it is, and their number.
    """
    starts = make_starts()
    symbols = np.repeat(np.tile(np.arange(ESCAPE + 1), len(starts)), np.diff(starts).ravel())
    where = np.arange(len(symbols)) >> BITS, symbols
    first, slots = starts[where], np.diff(starts)[where]
    rank = np.arange(len(symbols)) % (1 << BITS) - first
    return (slots << 20 | rank << 8 | symbols).astype(np.uint32)


def encode(symbols: np.ndarray, tables: np.ndarray, escaped: list[np.ndarray], lanes: int) -> np.ndarray:
    """Words of symbols by their tables, uint8 [planes, n]; `escaped` are the escapes of each plane."""
    starts = make_starts().astype(np.uint64)
    state, words = np.full(lanes, LOW, np.uint64), []
    for plane in reversed(range(len(symbols))):
        first = starts[tables[plane], symbols[plane]]
        slots = starts[tables[plane], symbols[plane].astype(np.int32) + 1] - first
        for begin in reversed(range(0, len(first), lanes)):
            count = slots[begin : begin + lanes]
            x = state[: len(count)]
            full = x >= count << np.uint64(32 - BITS)
            words.append((x[full] & np.uint64(0xFFFF)).astype("<u2"))
            x[full] >>= np.uint64(16)
            turns, rest = np.divmod(x, count)
            x[:] = (turns << np.uint64(BITS)) + rest + first[begin : begin + lanes]
    states = state.astype("<u4").view("<u2")
    ends = [plane.astype("<i2").view("<u2") for plane in reversed(escaped)]
    return np.concatenate([states, *reversed(words), *ends])


class Decoder:
    """Gives the symbols of one plane after the other; raises ValueError where there are no more words."""

    def __init__(self, words: np.ndarray, lanes: int) -> None:
        if 2 * lanes > len(words):
            raise ValueError(f"{len(words)} words for {lanes} lanes, which begin with two each")
        self._state = words[: 2 * lanes].view("<u4").astype(np.uint32)
        self._words, self._at, self._end = words, 2 * lanes, len(words)
        self._meanings = _make_meanings()

    def take(self, tables: np.ndarray) -> np.ndarray:
        """The next symbols, int32 [n], by their tables [n]."""
        found, lanes = np.empty(len(tables), np.uint32), len(self._state)
        rows = tables << BITS
        for begin in range(0, len(rows), lanes):
            part = rows[begin : begin + lanes]
            x = self._state[: len(part)]
            meaning = found[begin : begin + lanes]
            self._meanings.take(part + (x & _MASK), mode="clip", out=meaning)
            x >>= _BITS
            x *= meaning >> _SLOTS
            x += (meaning >> _RANK) & _MASK
            self._refill(x)
        found &= _SYMBOL
        return found.view(np.int32)

    def _refill(self, x: np.ndarray) -> None:
        low = (x < LOW).nonzero()[0]
        stop = self._at + len(low)
        if stop > self._end:
            raise ValueError("the words end before the latents do")
        x[low] = x[low] << _WORD | self._words[self._at : stop]
        self._at = stop

    def take_escaped(self, count: int) -> np.ndarray:
        """The next numbers that were stored as they are, int16."""
        if count > self._end - self._at:
            raise ValueError("the words end before the latents do")
        self._end -= count
        return self._words[self._end : self._end + count].view("<i2")

    def finish(self) -> None:
        """Raise ValueError unless all words were needed, and all lanes are back where they were begun."""
        if self._at != self._end or np.any(self._state != LOW):
            raise ValueError("the words do not end with the latents")
