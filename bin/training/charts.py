"""Drawn pictures: stripes, checks, blocks, discs and ramps of strong colours, as screens and charts show.

Footage hardly ever holds two primaries side by side, and a network that never saw any may answer with
whatever its numbers run away to.
"""

from collections.abc import Iterator

import numpy as np

SIDE = 640
COUNT = 40


def charts(seed: int) -> Iterator[np.ndarray]:
    """COUNT pictures [SIDE, SIDE, 3] uint8, of each kind in turn."""
    rng = np.random.default_rng([seed, COUNT])
    for n in range(COUNT):
        draw = KINDS[n % len(KINDS)]
        yield draw(colours(rng), rng)


def colours(rng: np.random.Generator) -> np.ndarray:
    """Two to eight colours [n, 3] uint8: corners of the cube, or any."""
    count = int(rng.integers(2, 9))
    corners = rng.choice([0, 255], (count, 3))
    return (corners if rng.random() < 0.6 else rng.integers(0, 256, (count, 3))).astype(np.uint8)


def slope(rng: np.random.Generator) -> np.ndarray:
    """Distance in pixels along some direction, level or upright at times, [SIDE, SIDE]."""
    y, x = np.mgrid[:SIDE, :SIDE]
    turn = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    return np.cos(turn) * x + np.sin(turn) * y


def stripes(inks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stripes at any angle, of one pixel or many."""
    return inks[np.floor(slope(rng) / rng.uniform(1, 40)).astype(int) % len(inks)]


def ramps(inks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One colour passing into the next; where they lie far apart, almost flat."""
    at = slope(rng) / rng.uniform(40, SIDE)
    left = np.floor(at).astype(int)
    mix = (at - left)[..., None]
    return np.round(inks[left % len(inks)] * (1 - mix) + inks[(left + 1) % len(inks)] * mix).astype(np.uint8)


def checks(inks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Squares in turn."""
    y, x = np.mgrid[:SIDE, :SIDE] // int(rng.integers(1, 33))
    return inks[(y + x) % len(inks)]


def blocks(inks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Squares of any colour."""
    side = int(rng.integers(1, 49))
    cells = rng.integers(0, len(inks), (SIDE // side + 1,) * 2)
    return inks[cells.repeat(side, 0).repeat(side, 1)[:SIDE, :SIDE]]


def discs(inks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Discs upon each other."""
    y, x = np.mgrid[:SIDE, :SIDE]
    shown = np.zeros((SIDE, SIDE), int)
    for n in range(60):
        cy, cx, radius = *rng.uniform(0, SIDE, 2), rng.uniform(4, 120)
        shown[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = n
    return inks[shown % len(inks)]


KINDS = (stripes, ramps, checks, blocks, discs)
