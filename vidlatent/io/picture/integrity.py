"""Files that are cut off or damaged: the sizes that a container states, compared with what is there.

Demuxers take the end of a file for the end of the video, so an unfinished download would become a shorter
clip, and nobody would be told. MP4/MOV, AVI and Matroska/WebM state their length, and GIF is a chain of
blocks; those few numbers are read here. Files of other kinds, and recordings of live streams, state none.
"""

from pathlib import Path
from typing import BinaryIO

EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = 0x18538067
_CLUSTER = 0x1F43B675
# What may lie directly in a segment, and in a cluster.
_IN_SEGMENT = {
    _CLUSTER, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, 0xEC, 0xBF,
}  # fmt: skip
_IN_CLUSTER = {0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0x5854, 0xAF, 0xEC, 0xBF}


def find_fault(path: str) -> str | None:
    """What is wrong with the file at `path` as a whole, in words; None where nothing was found."""
    if missing := count_missing_bytes(path):
        return f"the file ends {missing:,} bytes too early"
    if not Path(path).is_file():
        return None
    with Path(path).open("rb") as file:
        head = file.read(4)
        find = {EBML: _find_matroska_break, b"GIF8": _find_gif_break}.get(head)
        broken = find(file) if find else None
    return None if broken is None else f"the file's structure is broken at byte {broken:,}"


def _find_gif_break(file: BinaryIO) -> int | None:
    """The byte at which the chain of GIF blocks breaks; None where it is whole, even without an end mark."""
    file.seek(10)
    _skip_colours(file, 3)
    while kind := file.read(1):
        at = file.tell() - 1
        if kind == b";":
            return None
        if kind == b",":  # a picture
            file.seek(8, 1)
            _skip_colours(file, 1)
        if kind not in (b",", b"!") or not file.read(1) or not _skip_parts(file):
            return at
    return None


def _skip_colours(file: BinaryIO, header: int) -> None:
    """Skip a header of so many bytes, and the table of colours that its first byte may announce."""
    flags = int.from_bytes(file.read(header)[:1], "big")
    file.seek(3 << (flags % 8 + 1) if flags & 0x80 else 0, 1)


def _skip_parts(file: BinaryIO) -> bool:
    """Skip parts, each preceded by its length, up to an empty one; False where one is incomplete."""
    while (length := file.read(1)) not in (b"", b"\0"):
        if len(file.read(length[0])) < length[0]:
            return False
    return length == b"\0"


def _find_matroska_break(file: BinaryIO) -> int | None:
    """The byte at which the chain of Matroska's elements breaks; None where it is whole."""
    end = find_segment_end(file)
    broken = _find_break_among(file, end, _IN_SEGMENT) if end else None
    if end and broken is None and file.seek(end) and file.read(4) not in (b"", EBML):
        return end
    return broken


def _find_break_among(file: BinaryIO, end: int, known: set[int]) -> int | None:
    """The same for the elements from the current position to `end`, which must be `known` ones."""
    while (at := file.tell()) < end:
        identity, length = read_element(file)
        inside = file.tell() + (length or 0)
        if identity not in known or (length is None and identity != _CLUSTER) or inside > end:
            return at
        if length is None:  # a live recording: clusters without an end
            return None
        if identity == _CLUSTER and (broken := _find_break_among(file, inside, _IN_CLUSTER)) is not None:
            return broken
        file.seek(inside)
    return None if at == end else at


def read_element(file: BinaryIO) -> tuple[int, int | None]:
    """Read an element's identity, with its marker bits, and its length; None for a length left open."""
    first = file.read(1)
    extra = 8 - first[0].bit_length() if first and first[0] else 0
    return int.from_bytes(first + file.read(extra), "big"), _read_size(file)


def count_missing_bytes(path: str) -> int:
    """How many bytes are missing at the end of the file at `path`, by its own sizes; 0 where it has none."""
    if not Path(path).is_file():
        return 0
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        head = file.read(12)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            end = _find_boxes_end(file, size)
        elif head[:4] == b"RIFF":
            end = _find_riff_end(file, size)
        elif head[:4] == EBML:
            end = find_segment_end(file)
        else:
            return 0
    return max(0, end - size)


def _find_boxes_end(file: BinaryIO, size: int) -> int:
    """The byte at which the last top-level MP4 box ends."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8 or not head[4:8].isascii():  # 0: up to the end of the file; else no box
            return at
        at += length
    return at


def _find_riff_end(file: BinaryIO, size: int) -> int:
    """The byte at which the last RIFF chunk ends; a big AVI has several."""
    at = 0
    while at + 12 <= size:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] != b"RIFF" or length == 0:
            return at
        at += 8 + length
    return at


def find_segment_end(file: BinaryIO) -> int:
    """The byte at which Matroska's segment ends; 0 where its size was left open."""
    file.seek(4)
    header = _read_size(file)
    if header is None:
        return 0
    file.seek(header, 1)
    if int.from_bytes(file.read(4), "big") != _SEGMENT:
        return 0
    length = _read_size(file)
    return 0 if length is None else file.tell() + length


def _read_size(file: BinaryIO) -> int | None:
    """Read an EBML number; None where all its bits are set, which means unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    extra = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & ((1 << (7 - extra)) - 1)]) + file.read(extra), "big")
    return None if value == (1 << (7 * (extra + 1))) - 1 else value
