"""Trellis-coded quantisation: about 1 dB less noise than rounding makes, for the same bits.

Of the numbers that a latent may become only the even or only the odd ones are open to it, which is half of
them, and takes a bit less. Which half it is says a state of its place, [h, w], that walks on with every
channel and frame of a chunk: by the number's half, rounded down, being even or odd. So whoever chooses the
numbers chooses a path through the states, and finds the one that is nearest to all latents of a place; see
M. W. Marcellin and T. R. Fischer, "Trellis coded quantization of memoryless and Gauss-Markov sources", IEEE
Trans. Commun. 38 (1990). The states are those of G. Ungerboeck's code of rate 1/2 with 8 states.
"""

import numpy as np

STATES = 8
NOISE = 3.14  # squared error by this trellis, of a twelfth of a squared step, which rounding makes
TOGETHER = 2048  # places whose paths are looked for at once: so that all about them stays in the cache


def noise_of(trellis: bool) -> float:
    """The squared error of numbers, of a twelfth of a squared step; 1 where each is the nearest one."""
    return NOISE if trellis else 1.0


def advance(state: int, half: int) -> int:
    """The next state of a place, from its state and the half of its number, rounded down."""
    return state >> 1 ^ 5 * (state & 1) ^ 2 * (half & 1)


def choose_numbers(exact: np.ndarray) -> np.ndarray:
    """Numbers, int16, for a chunk `exact`, float32 [t, C, h, w]: at each place [h, w] they are a path."""
    planes = exact.reshape(exact.shape[0] * exact.shape[1], -1)
    numbers = np.empty(planes.shape, np.int16)
    for begin in range(0, planes.shape[1], TOGETHER):
        part = slice(begin, begin + TOGETHER)
        numbers[:, part] = _find_paths(planes[:, part])
    return numbers.reshape(exact.shape)


def _list_ways() -> tuple[np.ndarray, np.ndarray]:
    """Of each state the two that lead there, [2, STATES], and the number, modulo 4, that leads from them."""
    ways: list[list[tuple[int, int]]] = [[] for _ in range(STATES)]
    for state in range(STATES):
        for half in (0, 1):
            ways[advance(state, half)].append((state, 2 * half + (state & 1)))
    return tuple(np.array(ways).transpose(2, 1, 0))  # type: ignore[return-value]


FROM, BY = _list_ways()
NEXT = np.array([advance(state, half) for state in range(STATES) for half in (0, 1)], np.int32)
SHIFTS = np.array([2 - 4 * (state & 1) for state in range(STATES)], np.int32)  # of a guess, in eighths


def _find_paths(planes: np.ndarray) -> np.ndarray:
    """The numbers nearest to `planes` [n, places], by the algorithm of Viterbi."""
    places = np.arange(planes.shape[1])
    cost = np.full((STATES, len(places)), np.inf, np.float32)
    cost[0] = 0
    second = np.empty((len(planes), *cost.shape), bool)  # whether the second way is the nearer one
    for plane, better in zip(planes, second, strict=True):
        away = (plane - np.arange(4, dtype=np.float32)[:, None]) / 4
        away -= np.rint(away)
        away *= away
        first, other = (cost[state] + away[number] for state, number in zip(FROM, BY, strict=True))
        np.less(other, first, out=better)
        cost = np.minimum(first, other)
    numbers, state = np.empty(planes.shape, np.int16), cost.argmin(0)
    for plane, better, found in zip(planes[::-1], second[::-1], numbers[::-1], strict=True):
        way = better[state, places].view(np.uint8)
        number = BY[way, state]
        found[:] = number + 4 * np.rint((plane - number) / 4)
        state = FROM[way, state]
    return numbers


class Whole:
    """Where every number is open to every place."""

    def narrow(self, eighths: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is guessed of the numbers that are coded: eighths and half a step more, sixty-fourths."""
        return eighths, spread

    def code(self, plane: np.ndarray) -> np.ndarray:
        """What of numbers is coded."""
        return plane

    def follow(self, coded: np.ndarray) -> np.ndarray:
        """The numbers of which that is coded; the next plane is on."""
        return coded


class Halves:
    """Where the half of each number is coded, rounded down, and a state says which of two numbers it is of.

    There are `size` places, which all begin in state 0.
    """

    def __init__(self, size: int) -> None:
        self._state = np.zeros(size, np.int32)

    def narrow(self, eighths: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same of halves, whose steps are twice as long."""
        halved = eighths >> 1
        halved += SHIFTS.take(self._state, mode="clip")
        return halved, spread >> 1

    def code(self, plane: np.ndarray) -> np.ndarray:
        """The halves of numbers that are open to their places; raises ValueError where others are not."""
        if np.any((plane ^ self._state) & 1):
            raise ValueError("numbers that no path through the trellis has")
        return plane >> 1

    def follow(self, coded: np.ndarray) -> np.ndarray:
        """The numbers of these halves; the states walk on."""
        plane = coded << 1
        plane |= self._state & 1
        self._state = NEXT.take(self._state << 1 | coded & 1, mode="clip")
        return plane
