"""Files that end early or fall apart: what a container's own sizes promise against what is there.

Demuxers take the end of a file for the end of the video, so a torn download would become a shorter clip
without a word. MP4/MOV, AVI and Matroska/WebM say how long they are, GIF is a chain of blocks; this reads
those few numbers. A file of another kind, or one written as a live stream, promises nothing.
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


def fault(path: str) -> str | None:
    """What the file at `path` shows to be wrong with it as a whole, in words; None where nothing is."""
    if missing := missing_bytes(path):
        return f"the file ends {missing:,} bytes too early"
    if not Path(path).is_file():
        return None
    with Path(path).open("rb") as file:
        head = file.read(4)
        broken = _matroska_break(file) if head == EBML else _gif_break(file) if head == b"GIF8" else None
    return None if broken is None else f"the file's structure is broken at byte {broken:,}"


def _gif_break(file: BinaryIO) -> int | None:
    """Where the chain of GIF blocks breaks off; None where it holds, also without its end mark."""
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
    """Skip so many bytes, the first of which tells of a table of colours after them, and that."""
    flags = int.from_bytes(file.read(header)[:1], "big")
    file.seek(3 << (flags % 8 + 1) if flags & 0x80 else 0, 1)


def _skip_parts(file: BinaryIO) -> bool:
    """Skip a row of parts, each after its length, up to an empty one; whether all were there."""
    while (length := file.read(1)) not in (b"", b"\0"):
        if len(file.read(length[0])) < length[0]:
            return False
    return length == b"\0"


def _matroska_break(file: BinaryIO) -> int | None:
    """Where Matroska's elements break; None where they hold."""
    end = segment_end(file)
    broken = _walk(file, end, _IN_SEGMENT) if end else None
    if end and broken is None and file.seek(end) and file.read(4) not in (b"", EBML):
        return end
    return broken


def _walk(file: BinaryIO, end: int, known: set[int]) -> int | None:
    """Where the chain of Matroska elements from here to `end` breaks; None where it holds."""
    while (at := file.tell()) < end:
        identity, length = element(file)
        inside = file.tell() + (length or 0)
        if identity not in known or (length is None and identity != _CLUSTER) or inside > end:
            return at
        if length is None:  # a live recording: clusters without an end
            return None
        if identity == _CLUSTER and (broken := _walk(file, inside, _IN_CLUSTER)) is not None:
            return broken
        file.seek(inside)
    return None if at == end else at


def element(file: BinaryIO) -> tuple[int, int | None]:
    """An element's identity, its marker bits kept, and its length, None where open."""
    first = file.read(1)
    extra = 8 - first[0].bit_length() if first and first[0] else 0
    return int.from_bytes(first + file.read(extra), "big"), _vint(file)


def missing_bytes(path: str) -> int:
    """How many bytes the file at `path` promises beyond its end; 0 where it is whole or says nothing."""
    if not Path(path).is_file():
        return 0
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        head = file.read(12)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            end = _boxes_end(file, size)
        elif head[:4] == b"RIFF":
            end = _riff_end(file, size)
        elif head[:4] == EBML:
            end = segment_end(file)
        else:
            return 0
    return max(0, end - size)


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the last top-level MP4 box ends."""
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


def _riff_end(file: BinaryIO, size: int) -> int:
    """Where the last RIFF chunk (a big AVI has several) ends."""
    at = 0
    while at + 12 <= size:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] != b"RIFF" or length == 0:
            return at
        at += 8 + length
    return at


def segment_end(file: BinaryIO) -> int:
    """Where Matroska's segment ends; 0 where its size was left open."""
    file.seek(4)
    header = _vint(file)
    if header is None:
        return 0
    file.seek(header, 1)
    if int.from_bytes(file.read(4), "big") != _SEGMENT:
        return 0
    length = _vint(file)
    return 0 if length is None else file.tell() + length


def _vint(file: BinaryIO) -> int | None:
    """An EBML number; None where all its bits are set, which means unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    extra = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & ((1 << (7 - extra)) - 1)]) + file.read(extra), "big")
    return None if value == (1 << (7 * (extra + 1))) - 1 else value
