"""Cropping windows that a container keeps beside the pictures: MP4's clean aperture, Matroska's PixelCrop.

The decoder applies a window of the codec itself (H.264, HEVC). The container's window comes on top of it.
Players apply it, but PyAV gives no access to it, so its few bytes are read from the file here.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import BinaryIO

from vidlatent.io.picture.integrity import EBML, find_segment_end, read_element

_HALF = Fraction(1, 2)
_CLAP = struct.Struct(">IIIIiIiI")  # width, height, horizontal and vertical offset, as fractions
_ENTRY_BYTES = 86  # of a visual sample entry, before the boxes in it
_TRACKS, _TRACK, _KIND, _VIDEO = 0x1654AE6B, 0xAE, 0x83, 0xE0
_LEFT, _TOP, _RIGHT, _BOTTOM = 0x54CC, 0x54BB, 0x54DD, 0x54AA
_LONGEST_NUMBER = 8  # bytes


@dataclass(frozen=True)
class Insets:
    """How many stored pixels to cut off at each side."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def __bool__(self) -> bool:
        return any((self.left, self.top, self.right, self.bottom))

    def fits(self, width: int, height: int) -> bool:
        """Whether they lie inside a picture of this size and leave at least one pixel of it."""
        inside = min(self.left, self.top, self.right, self.bottom) >= 0
        return inside and self.left + self.right < width and self.top + self.bottom < height

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of a stored picture after the cut."""
        return width - self.left - self.right, height - self.top - self.bottom


def read_insets(file: BinaryIO, track: tuple[int, int], size: tuple[int, int]) -> Insets:
    """The insets that a file asks for, for a video track of stored `size` (width, height).

    `track` names it twice: by the id that MP4 gives it, and by its number among the video tracks.
    """
    head = file.read(8)
    if head[4:] == b"ftyp" or head[4:] in (b"moov", b"mdat", b"wide", b"free", b"skip"):
        clap = _find_clean_aperture(file, track[0])
        return _insets_of_aperture(clap, *size) if clap else Insets()
    if head[:4] == EBML:
        return _read_pixel_crop(file, track[1])
    return Insets()


def _insets_of_aperture(clap: bytes, width: int, height: int) -> Insets:
    """The insets of a clean aperture, rounded to whole pixels.

    ISO/IEC 14496-12, 12.1.4: a window of its own size, whose centre has an offset from the picture's.
    """
    numbers = _CLAP.unpack(clap)
    if 0 in numbers[1::2]:
        return Insets(-1)  # a fraction with denominator 0: insets that fit no picture
    wide, high, right, down = (Fraction(*numbers[at : at + 2]) for at in (0, 2, 4, 6))
    left, top = (floor(at + _HALF) for at in ((width - wide) / 2 + right, (height - high) / 2 + down))
    kept = floor(wide + _HALF), floor(high + _HALF)
    return Insets(left, top, width - left - kept[0], height - top - kept[1])


def _find_clean_aperture(file: BinaryIO, track: int) -> bytes | None:
    """The bytes of the clean aperture of one track of an MP4 or QuickTime file."""
    whole = file.seek(0, 2)
    for moov in _list_boxes(file, 0, whole, b"moov"):
        for trak in _list_boxes(file, *moov, b"trak"):
            if _read_track_id(file, trak) == track:
                return _read_clean_aperture(file, trak)
    return None


def _read_track_id(file: BinaryIO, trak: tuple[int, int]) -> int | None:
    for start, _ in _list_boxes(file, *trak, b"tkhd"):
        file.seek(start)
        head = file.read(24)
        at = 20 if head[:1] == b"\1" else 12  # its times have 64 bits from version 1 on
        return int.from_bytes(head[at : at + 4], "big")
    return None


def _read_clean_aperture(file: BinaryIO, trak: tuple[int, int]) -> bytes | None:
    spans = [trak]
    for kind in (b"mdia", b"minf", b"stbl", b"stsd"):
        spans = [inner for span in spans for inner in _list_boxes(file, *span, kind)]
    for start, end in spans:
        entries = start + 8  # version, flags, count
        file.seek(entries)
        entry_end = entries + int.from_bytes(file.read(4), "big")
        for clap, clap_end in _list_boxes(file, entries + _ENTRY_BYTES, min(entry_end, end), b"clap"):
            file.seek(clap)
            return file.read(_CLAP.size) if clap_end - clap == _CLAP.size else None
    return None


def _list_boxes(file: BinaryIO, start: int, end: int, kind: bytes) -> Iterator[tuple[int, int]]:
    """(start, end) of the contents of every box of this kind that lies directly in a stretch of the file."""
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16)
        length, header = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, header = int.from_bytes(head[8:], "big"), 16
        if length == 0:  # the box reaches to the end of the stretch
            length = end - start
        if length < header or start + length > end:
            return
        if head[4:8] == kind:
            yield start + header, start + length
        start += length


def _read_pixel_crop(file: BinaryIO, number: int) -> Insets:
    """PixelCrop of video track `number` in a Matroska or WebM file."""
    end, begin = find_segment_end(file), file.tell()
    found = _list_elements(file, begin, end or file.seek(0, 2))
    tracks = next((span for kind, *span in found if kind == _TRACKS), None)
    if tracks is None:
        return Insets()
    found = (span for kind, *span in _list_elements(file, *tracks) if kind == _TRACK)
    videos = [insets for span in found for insets in _insets_of_track(file, span)]
    return videos[number] if number < len(videos) else Insets()


def _insets_of_track(file: BinaryIO, track: list[int]) -> list[Insets]:
    """The insets of a track, in a list; an empty list where it is no video track."""
    found = {kind: span for kind, *span in _list_elements(file, *track)}
    if _KIND not in found or _read_number(file, *found[_KIND]) != 1:
        return []
    settings = _list_elements(file, *found.get(_VIDEO, (0, 0)))
    sides = {kind: _read_number(file, *span) for kind, *span in settings}
    return [Insets(*(sides.get(side, 0) for side in (_LEFT, _TOP, _RIGHT, _BOTTOM)))]


def _read_number(file: BinaryIO, start: int, end: int) -> int:
    file.seek(start)
    return int.from_bytes(file.read(min(end - start, _LONGEST_NUMBER)), "big")


def _list_elements(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(identity, start, end) of the contents of every Matroska element directly in a stretch of the file."""
    while start < end:
        file.seek(start)
        identity, length = read_element(file)
        inside = file.tell()
        if length is None or inside + length > end:
            return
        yield identity, inside, inside + length
        start = inside + length
