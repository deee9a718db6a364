"""Image files of several pictures, of which libav gives only the first: pages of a TIFF, an animated WebP."""

import struct
from typing import BinaryIO

_MOST_PAGES = 1 << 16  # a chain that is longer leads in a circle
_ENTRY_BYTES = 12  # of a TIFF's directory


def count_pages(file: BinaryIO) -> int:
    """How many pictures an image holds; 1 for files of other kinds."""
    head = file.read(12)
    if head[:4] in (b"II*\0", b"MM\0*"):
        return _count_directories(file, "<" if head[:2] == b"II" else ">")
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return _count_animation_frames(file)
    return 1


def _count_directories(file: BinaryIO, order: str) -> int:
    file.seek(4)
    count, seen = 0, set()
    at = _read(file, f"{order}I")
    while at and at not in seen and count < _MOST_PAGES:
        seen.add(at)
        count += 1
        file.seek(at)
        entries = _read(file, f"{order}H")
        file.seek(at + 2 + entries * _ENTRY_BYTES)
        at = _read(file, f"{order}I")
    return max(1, count)


def _count_animation_frames(file: BinaryIO) -> int:
    file.seek(12)
    count = 0
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[4:], "little")
        count += head[:4] == b"ANMF"
        file.seek(length + length % 2, 1)
    return max(1, count)


def _read(file: BinaryIO, form: str) -> int:
    """A number from the file; 0 where it ends before."""
    data = file.read(struct.calcsize(form))
    return struct.unpack(form, data)[0] if len(data) == struct.calcsize(form) else 0
