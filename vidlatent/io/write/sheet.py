"""A contact sheet: small pictures of a clip in one PNG, each with its time below."""

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Self

import numpy as np

from vidlatent.files import PNG, replace_on_close
from vidlatent.io.picture.info import Picture
from vidlatent.io.write.images import encode_image

SHEET = PNG
WIDTH_PX = 1440  # of the sheet, as far as whole pictures fill it
GAP_PX = 8
GROUND, INK = 24, 208  # grey levels
ZOOM = 2  # pixels a side of a dot of a digit

# Rows of dots, as binary numbers: digits five wide and seven high.
GLYPHS = {
    "0": (0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110),
    "1": (0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110),
    "2": (0b01110, 0b10001, 0b00001, 0b00010, 0b00100, 0b01000, 0b11111),
    "3": (0b11111, 0b00010, 0b00100, 0b00010, 0b00001, 0b10001, 0b01110),
    "4": (0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010),
    "5": (0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110),
    "6": (0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110),
    "7": (0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000),
    "8": (0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110),
    "9": (0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100),
    ":": (0b00000, 0b01100, 0b01100, 0b00000, 0b01100, 0b01100, 0b00000),
    ".": (0b00000, 0b00000, 0b00000, 0b00000, 0b00000, 0b01100, 0b01100),
    "-": (0b00000, 0b00000, 0b00000, 0b01110, 0b00000, 0b00000, 0b00000),
}
DOTS = (7, 5)  # rows and columns of a glyph
LABEL_PX = ZOOM * (DOTS[1] + 1) * len("0:00:00.000")


class SheetSink:
    """A VideoSink that writes one PNG of `count` pictures, row by row: see sink.VideoSink."""

    def __init__(self, path: Path, picture: Picture, count: int) -> None:
        self._path, self._picture = path, picture
        self._cell = (picture.height + ZOOM * DOTS[0] + 2 * GAP_PX, max(picture.width, LABEL_PX) + GAP_PX)
        self._columns = max(1, min(count, (WIDTH_PX - GAP_PX) // self._cell[1]))
        rows = -(-count // self._columns)
        size = (GAP_PX + rows * self._cell[0], GAP_PX + self._columns * self._cell[1], 3)
        self._sheet = np.full(size, GROUND, np.uint8)
        self._done = 0
        self.notices: list[str] = []

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._partial = self._stack.enter_context(replace_on_close(self._path))
        return self

    def write(self, rgb: np.ndarray, pts: int, duration: int) -> None:
        """Add a picture [height, width, 3] uint8; nobody sees how long it lasts."""
        row, column = divmod(self._done, self._columns)
        top, left = GAP_PX + row * self._cell[0], GAP_PX + column * self._cell[1]
        paste(self._sheet, rgb, top, left)
        time = draw_text(spell_time(pts * self._picture.time_base))
        paste(self._sheet, np.where(time, INK, GROUND)[..., None], top + rgb.shape[0] + GAP_PX // 2, left)
        self._done += 1

    def __exit__(self, *exc: object) -> None:
        if exc[0] is not None:
            self._stack.__exit__(*exc)
            return
        with self._stack:
            self._partial.write_bytes(encode_image(self._sheet))


def paste(sheet: np.ndarray, picture: np.ndarray, top: int, left: int) -> None:
    """Lay `picture` [h, w, 3 or 1] onto `sheet` [H, W, 3]; what reaches beyond its edge is lost."""
    place = sheet[top : top + picture.shape[0], left : left + picture.shape[1]]
    place[:] = picture[: place.shape[0], : place.shape[1]]


def spell_time(seconds: Fraction) -> str:
    """Write minutes, seconds and thousandths, and hours where there are any: 1:02.500."""
    sign, thousandths = "-" if seconds < 0 else "", round(abs(seconds) * 1000)
    minutes, thousandths = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{sign}{head}:{thousandths // 1000:02d}.{thousandths % 1000:03d}"


def draw_text(text: str) -> np.ndarray:
    """Draw digits and colons as an array of bool, [ZOOM · 7, ZOOM · 6 · characters]."""
    rows, columns = DOTS
    glyphs = np.array([GLYPHS[character] for character in text])  # [characters, rows]
    bits = glyphs.T[..., None] >> np.arange(columns)[::-1] & 1  # [rows, characters, columns]
    spaced = np.pad(bits, ((0, 0), (0, 0), (0, 1))).reshape(rows, -1)
    return spaced.astype(bool).repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
