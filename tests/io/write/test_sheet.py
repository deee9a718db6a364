"""A contact sheet holds its pictures side by side, each above its time."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import vidlatent
from vidlatent.errors import UsageError
from vidlatent.io.picture.colour import Colour
from vidlatent.io.picture.info import Picture
from vidlatent.io.write.sheet import GAP_PX, GLYPHS, GROUND, INK, ZOOM, SheetSink, draw_text, spell_time

COLOUR = Colour("bt709", "tv", "bt709", "bt709")


def picture(width: int, height: int) -> Picture:
    return Picture(width, height, Fraction(1), COLOUR, 8, Fraction(1, 1000), None)


def write_sheet(path: Path, width: int, height: int, count: int) -> np.ndarray:
    """A sheet of `count` flat pictures, each lighter than the one before, a second apart."""
    with SheetSink(path, picture(width, height), count) as sink:
        for n in range(count):
            sink.write(np.full((height, width, 3), 40 + n, np.uint8), 1000 * n, 1000)
    with vidlatent.open_video(path) as image:
        return next(iter(image.frames())).rgb


def test_pictures_follow_in_rows_with_their_times_below(tmp_path):
    sheet = write_sheet(tmp_path / "a.png", 224, 126, 8)
    assert sheet.shape == (8 + 2 * (126 + 14 + 16), 8 + 6 * 232, 3)
    for n in range(8):
        row, column = divmod(n, 6)
        top, left = 8 + row * 156, 8 + column * 232
        assert (sheet[top : top + 126, left : left + 224] == 40 + n).all()
        label = draw_text(f"0:0{n}.000")
        place = sheet[top + 126 + GAP_PX // 2 :, left:][: label.shape[0], : label.shape[1]]
        assert np.array_equal(place[..., 0] == INK, label)
    assert (sheet[8 + 156 :, 8 + 2 * 232 :] == GROUND).all(), "nothing stands where no picture is"


@pytest.mark.parametrize(("width", "columns"), [(20, 10), (126, 10), (3000, 1)])
def test_labels_do_not_touch_whatever_the_width(tmp_path, width, columns):
    sheet = write_sheet(tmp_path / "a.png", width, 32, 12)
    cell = max(width, 132) + GAP_PX
    assert sheet.shape == (GAP_PX + -(-12 // columns) * 62, GAP_PX + columns * cell, 3)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (Fraction(0), "0:00.000"),
        (Fraction(1001, 30000), "0:00.033"),
        (Fraction(59_9996, 10_000), "1:00.000"),
        (Fraction(3723, 1) + Fraction(1, 2), "1:02:03.500"),
        (Fraction(-1, 4), "-0:00.250"),
    ],
)
def test_times_are_spelled_to_the_thousandth(seconds, text):
    assert spell_time(seconds) == text
    assert set(text) <= set(GLYPHS)


def test_every_character_has_a_look_of_its_own():
    drawn = {character: draw_text(character) for character in GLYPHS}
    assert len({glyph.tobytes() for glyph in drawn.values()}) == len(GLYPHS)
    assert {glyph.shape for glyph in drawn.values()} == {(7 * ZOOM, 6 * ZOOM)}
    assert np.array_equal(draw_text("1:"), np.hstack([drawn["1"], drawn[":"]]))
    rows = ["".join(" #"[dot] for dot in row) for row in draw_text("7")[::ZOOM, ::ZOOM].astype(int)]
    assert rows == ["##### ", "    # ", "   #  ", "  #   ", " #    ", " #    ", " #    "]


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), SheetSink(tmp_path / "a.png", picture(8, 8), 2):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_told_before_any_picture(tmp_path):
    with pytest.raises(UsageError, match="cannot be written"):
        SheetSink(tmp_path / "no" / "a.png", picture(8, 8), 1).__enter__()
