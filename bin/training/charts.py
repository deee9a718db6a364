"""Drawn pictures: stripes, checks, blocks and discs of strong colours, as screens and test charts show.

Footage hardly ever holds two primaries side by side, and a network that never saw any may answer with
whatever its numbers run away to.
"""

from collections.abc import Iterator

import numpy as np

SIDE = 640
COUNT = 24


def charts(seed: int) -> Iterator[np.ndarray]:
    """COUNT pictures [SIDE, SIDE, 3] uint8 of four kinds in turn."""
    rng = np.random.default_rng([seed, COUNT])
    for n in range(COUNT):
        inks, shapes = colours(rng), PATTERNS[n % len(PATTERNS)](rng)
        yield inks[shapes % len(inks)]


def colours(rng: np.random.Generator) -> np.ndarray:
    """Two to eight colours [n, 3] uint8: corners of the cube, or any."""
    count = int(rng.integers(2, 9))
    corners = rng.choice([0, 255], (count, 3))
    return (corners if rng.random() < 0.6 else rng.integers(0, 256, (count, 3))).astype(np.uint8)


def stripes(rng: np.random.Generator) -> np.ndarray:
    """Which colour each pixel has, [SIDE, SIDE]: stripes at any angle."""
    y, x = np.mgrid[:SIDE, :SIDE]
    turn = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    return np.floor((np.cos(turn) * x + np.sin(turn) * y) / rng.uniform(1, 40)).astype(int)


def checks(rng: np.random.Generator) -> np.ndarray:
    """Squares in turn."""
    y, x = np.mgrid[:SIDE, :SIDE] // int(rng.integers(1, 33))
    return y + x


def blocks(rng: np.random.Generator) -> np.ndarray:
    """Squares of any colour."""
    side = int(rng.integers(1, 49))
    cells = rng.integers(0, 8, (SIDE // side + 1,) * 2)
    return cells.repeat(side, 0).repeat(side, 1)[:SIDE, :SIDE]


def discs(rng: np.random.Generator) -> np.ndarray:
    """Discs upon each other."""
    y, x = np.mgrid[:SIDE, :SIDE]
    shown = np.zeros((SIDE, SIDE), int)
    for n in range(60):
        cy, cx, radius = *rng.uniform(0, SIDE, 2), rng.uniform(4, 120)
        shown[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = n
    return shown


PATTERNS = (stripes, checks, blocks, discs)
