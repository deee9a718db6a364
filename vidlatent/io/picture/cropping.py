"""Cropping windows that a container keeps beside the pictures: MP4's clean aperture, Matroska's PixelCrop.

A window of the codec itself (H.264, HEVC) is cut by its decoder. The container's comes on top: players honour
it, and libav tells of it only where PyAV does not look, so the few bytes are read here.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import BinaryIO

from vidlatent.io.picture.integrity import EBML, element, segment_end

_HALF = Fraction(1, 2)
_CLAP = struct.Struct(">IIIIiIiI")  # width, height, horizontal and vertical offset, as fractions
_ENTRY_BYTES = 86  # of a visual sample entry, before the boxes in it
_TRACKS, _TRACK, _KIND, _VIDEO = 0x1654AE6B, 0xAE, 0x83, 0xE0
_LEFT, _TOP, _RIGHT, _BOTTOM = 0x54CC, 0x54BB, 0x54DD, 0x54AA
_LONGEST_NUMBER = 8  # bytes


@dataclass(frozen=True)
class Insets:
    """Stored pixels to leave away at each side."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def __bool__(self) -> bool:
        return any((self.left, self.top, self.right, self.bottom))

    def fit(self, width: int, height: int) -> bool:
        """Whether they lie in a picture of this size, and leave something of it."""
        inside = min(self.left, self.top, self.right, self.bottom) >= 0
        return inside and self.left + self.right < width and self.top + self.bottom < height

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of what is left of a stored picture."""
        return width - self.left - self.right, height - self.top - self.bottom


def insets(path: str, track: tuple[int, int], size: tuple[int, int]) -> Insets:
    """What the file at `path` says of a video track whose stored pictures are `size` (width, height).

    `track` is its number by libav's reckoning: the id that MP4 gives it, and its place among video tracks.
    """
    if not Path(path).is_file():
        return Insets()
    with Path(path).open("rb") as file:
        head = file.read(8)
        if head[4:] == b"ftyp" or head[4:] in (b"moov", b"mdat", b"wide", b"free", b"skip"):
            clap = _clap(file, track[0])
            return _clean_aperture(clap, *size) if clap else Insets()
        if head[:4] == EBML:
            return _pixel_crop(file, track[1])
    return Insets()


def _clean_aperture(clap: bytes, width: int, height: int) -> Insets:
    """ISO/IEC 14496-12, 12.1.4: a window of its own size, its centre off the picture's; to whole pixels."""
    numbers = _CLAP.unpack(clap)
    if 0 in numbers[1::2]:
        return Insets(-1)  # fits nowhere
    wide, high, right, down = (Fraction(*numbers[at : at + 2]) for at in (0, 2, 4, 6))
    left, top = (floor(at + _HALF) for at in ((width - wide) / 2 + right, (height - high) / 2 + down))
    kept = floor(wide + _HALF), floor(high + _HALF)
    return Insets(left, top, width - left - kept[0], height - top - kept[1])


def _clap(file: BinaryIO, track: int) -> bytes | None:
    """The clean aperture of one track of an MP4 or QuickTime file."""
    whole = file.seek(0, 2)
    for moov in _boxes(file, 0, whole, b"moov"):
        for trak in _boxes(file, *moov, b"trak"):
            if _track_id(file, trak) == track:
                return _clap_of_track(file, trak)
    return None


def _track_id(file: BinaryIO, trak: tuple[int, int]) -> int | None:
    for start, _ in _boxes(file, *trak, b"tkhd"):
        file.seek(start)
        head = file.read(24)
        at = 20 if head[:1] == b"\1" else 12  # its times have 64 bits from version 1 on
        return int.from_bytes(head[at : at + 4], "big")
    return None


def _clap_of_track(file: BinaryIO, trak: tuple[int, int]) -> bytes | None:
    spans = [trak]
    for kind in (b"mdia", b"minf", b"stbl", b"stsd"):
        spans = [inner for span in spans for inner in _boxes(file, *span, kind)]
    for start, end in spans:
        entries = start + 8  # version, flags, count
        file.seek(entries)
        entry_end = entries + int.from_bytes(file.read(4), "big")
        for clap, clap_end in _boxes(file, entries + _ENTRY_BYTES, min(entry_end, end), b"clap"):
            file.seek(clap)
            return file.read(_CLAP.size) if clap_end - clap == _CLAP.size else None
    return None


def _boxes(file: BinaryIO, start: int, end: int, kind: bytes) -> Iterator[tuple[int, int]]:
    """(start, end) of the contents of every box of this kind that lies directly in a stretch of the file."""
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16)
        length, header = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, header = int.from_bytes(head[8:], "big"), 16
        if length == 0:  # up to the end
            length = end - start
        if length < header or start + length > end:
            return
        if head[4:8] == kind:
            yield start + header, start + length
        start += length


def _pixel_crop(file: BinaryIO, number: int) -> Insets:
    """PixelCrop of the video track of this number in a Matroska or WebM file."""
    end = segment_end(file) or Path(file.name).stat().st_size
    tracks = next((span for kind, *span in _elements(file, file.tell(), end) if kind == _TRACKS), None)
    if tracks is None:
        return Insets()
    videos = [v for kind, *span in _elements(file, *tracks) if kind == _TRACK for v in _video(file, span)]
    return videos[number] if number < len(videos) else Insets()


def _video(file: BinaryIO, track: list[int]) -> list[Insets]:
    """The insets of a track, none where it is no video."""
    found = {kind: span for kind, *span in _elements(file, *track)}
    if _KIND not in found or _number(file, *found[_KIND]) != 1:
        return []
    sides = {kind: _number(file, *span) for kind, *span in _elements(file, *found.get(_VIDEO, (0, 0)))}
    return [Insets(*(sides.get(side, 0) for side in (_LEFT, _TOP, _RIGHT, _BOTTOM)))]


def _number(file: BinaryIO, start: int, end: int) -> int:
    file.seek(start)
    return int.from_bytes(file.read(min(end - start, _LONGEST_NUMBER)), "big")


def _elements(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(identity, start, end) of the contents of every Matroska element directly in a stretch of the file."""
    while start < end:
        file.seek(start)
        identity, length = element(file)
        inside = file.tell()
        if length is None or inside + length > end:
            return
        yield identity, inside, inside + length
        start = inside + length
