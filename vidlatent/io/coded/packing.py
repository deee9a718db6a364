"""A chunk of latents that are whole numbers as words of 16 bits, and back."""

import numpy as np

from vidlatent.io.coded import rans
from vidlatent.io.coded.predictor import MOST, Predictor
from vidlatent.io.coded.trellis import Halves, Whole

VALUES_PER_LANE, MOST_LANES = 1024, 1024  # a lane costs three bytes, few lanes cost time
_SPREADS = 4096  # sixty-fourths of a step: all above is the largest scale
_TABLES = rans.EIGHTHS * np.array(  # of spreads: a third of an octave is one scale
    [min(rans.SCALES - 1, (spread**3 >> 5).bit_length()) for spread in range(_SPREADS)]
)


def pack(numbers: np.ndarray, predictor: Predictor, trellis: bool = False) -> np.ndarray:
    """Words, uint16, of numbers, int16 [t, C, h, w], at most MOST in magnitude.

    With `trellis` they are a path through it at each place, which takes a bit less for each.
    """
    channels, planes = numbers.shape[1], numbers.reshape(-1, numbers.shape[2] * numbers.shape[3])
    symbols, tables = np.empty((2, *planes.shape), np.uint8)
    slots, escaped = np.diff(rans.make_starts()), []
    open_numbers = Halves(planes.shape[1]) if trellis else Whole()

    def note(frame: int, c: int, eighths: np.ndarray, spread: np.ndarray) -> np.ndarray:
        k = frame * channels + c
        plane = planes[k].astype(np.int32)
        eighths, spread = open_numbers.narrow(eighths, spread)
        coded, tables[k] = open_numbers.code(plane), choose_tables(eighths, spread)
        symbol = coded - (eighths >> 3) + rans.REACH
        symbol[(symbol < 0) | (symbol >= rans.ESCAPE)] = rans.ESCAPE
        symbol[slots[tables[k], symbol] == 0] = rans.ESCAPE
        symbols[k] = symbol
        escaped.append(coded[symbol == rans.ESCAPE])
        return open_numbers.follow(coded)

    predictor.walk(np.empty_like(numbers), note)
    lanes = choose_lanes(numbers.shape)
    return np.concatenate([np.array([lanes], "<u2"), rans.encode(symbols, tables, escaped, lanes)])


def unpack(
    words: np.ndarray, shape: tuple[int, ...], predictor: Predictor, trellis: bool = False
) -> np.ndarray:
    """The numbers, int16 [t, C, h, w]; raises ValueError where the words mean none."""
    lanes = int(words[0])
    if not 1 <= lanes <= shape[2] * shape[3]:
        raise ValueError(f"{lanes} lanes for planes of {shape[2] * shape[3]} latents")
    decoder = rans.Decoder(words[1:], lanes)
    open_numbers = Halves(shape[2] * shape[3]) if trellis else Whole()

    def take(_: int, __: int, eighths: np.ndarray, spread: np.ndarray) -> np.ndarray:
        eighths, spread = open_numbers.narrow(eighths, spread)
        symbols = decoder.take(choose_tables(eighths, spread))
        coded = (eighths >> 3) + (symbols - rans.REACH)
        far = (symbols == rans.ESCAPE).nonzero()[0]
        if len(far):
            coded[far] = np.clip(decoder.take_escaped(len(far)), -MOST >> trellis, MOST >> trellis)
        return open_numbers.follow(coded)

    numbers = np.empty(shape, np.int16)
    predictor.walk(numbers, take)
    decoder.finish()
    return numbers


def choose_tables(eighths: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Which table each number is coded by: that of its spread, and of where in a step its guess lies."""
    return _TABLES.take(spread, mode="clip") + (eighths & 7)


def choose_lanes(shape: tuple[int, ...]) -> int:
    """How many lanes a chunk [t, C, h, w] is coded in: such that they are equally busy with a plane."""
    t, channels, h, w = shape
    most = max(1, min(MOST_LANES, t * channels * h * w // VALUES_PER_LANE, h * w))
    turns = -(-h * w // most)
    return -(-h * w // turns)
