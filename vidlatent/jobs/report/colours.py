"""One colour for each subject of a report, the same in tables, plots and pictures, for light and dark."""

import math
from collections.abc import Sequence

HUES = (255, 45, 150, 330, 95, 200, 15, 290)  # degrees, far from each other; then by the golden angle
GOLDEN_ANGLE = 137.508
CHROMA = 0.13
LIGHT_PAGE, DARK_PAGE = (0.42, 0.66), (0.62, 0.86)  # lightness of the darkest and the lightest of a family


def pick_colours(families: Sequence[Sequence[str]]) -> dict[str, tuple[str, str]]:
    """For each subject its colours, #rrggbb, on a light page and on a dark one.

    A family has one hue, and its subjects run from dark to light: rates of one codec are seen to belong
    together.
    """
    colours = {}
    for n, family in enumerate(families):
        hue = HUES[n] if n < len(HUES) else (HUES[0] + GOLDEN_ANGLE * n) % 360
        for place, subject in enumerate(family):
            share = (place + 0.5) / len(family)
            levels = (low + share * (high - low) for low, high in (LIGHT_PAGE, DARK_PAGE))
            colours[subject] = tuple(to_hex(level, CHROMA, hue) for level in levels)
    return colours


def to_hex(lightness: float, chroma: float, hue: float) -> str:
    """An OKLCH colour (Ottosson 2020) as #rrggbb; what sRGB has not is brought to its edge."""
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    cones = (
        (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3,
        (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3,
        (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3,
    )
    rows = (
        (4.0767416621, -3.3077115913, 0.2309699292),
        (-1.2684380046, 2.6097574011, -0.3413193965),
        (-0.0041960863, -0.7034186147, 1.7076147010),
    )
    linear = (sum(k * cone for k, cone in zip(row, cones, strict=True)) for row in rows)
    return "#" + "".join(f"{round(255 * _to_srgb(min(max(value, 0.0), 1.0))):02x}" for value in linear)


def _to_srgb(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
