"""Colours of subjects: each its own, kin alike, and to be seen on the page they are on."""

import pytest

from vidlatent.jobs.report.colours import pick_colours, to_hex

CONTRAST = 2.0  # of a line to the page: the lightest of a family is a faint one, never an unseen one


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: str, b: str) -> float:
    low, high = sorted(luminance(c) + 0.05 for c in (a, b))
    return high / low


def test_every_subject_has_a_colour_of_its_own_that_can_be_seen():
    families = [["pocket"], ["wan"], *([f"codec{n} {rate}" for rate in range(6)] for n in range(10))]
    colours = pick_colours(families)
    assert list(colours) == [name for family in families for name in family]
    assert len(set(colours.values())) == len(colours)
    for light, dark in colours.values():
        assert contrast(light, "#ffffff") > CONTRAST and contrast(dark, "#15171a") > CONTRAST


@pytest.mark.parametrize(
    ("colour", "expected"),
    [((1.0, 0.0, 0), "#ffffff"), ((0.0, 0.0, 0), "#000000"), ((0.62796, 0.25768, 29.234), "#ff0000")],
)
def test_known_colours_are_what_they_are(colour, expected):
    assert to_hex(*colour) == expected
