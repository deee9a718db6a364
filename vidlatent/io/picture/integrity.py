"""Files that are cut off or damaged: the sizes that a container states, compared with what is there.

Demuxers take the end of a file for the end of the video, so an unfinished download would become a shorter
clip, and nobody would be told. MP4/MOV, AVI and Matroska/WebM state their length, and GIF is a chain of
blocks; those few numbers are read here. What comes after the last part of a container, or lies unknown
between its parts, is no fault: the decoder has delivered every frame. Recordings of live streams state no
length, but where one ends in the middle of a part, that can be seen, and is said.
"""

from collections.abc import Callable
from typing import BinaryIO

EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = 0x18538067
_CLUSTER = 0x1F43B675
# What may lie directly in a segment, and in a cluster.
_IN_SEGMENT = {
    _CLUSTER, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, 0xEC, 0xBF,
}  # fmt: skip
_IN_CLUSTER = {0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0x5854, 0xAF, 0xEC, 0xBF}
# Boxes that lie directly in an MP4 or MOV file; whatever else follows is not of the film.
_BOXES = {
    *(b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"moof", b"mfra", b"sidx", b"ssix"),
    *(b"styp", b"meta", b"pdin", b"emsg", b"prft", b"pnot", b"PICT", b"udta", b"imda"),
}
_UNPATCHED = (0, 0xFFFFFFFF)  # lengths that writers put first, and correct where they can seek
_TS_PACKETS = (188, 192, 204)  # bytes of a packet of MPEG-TS: plain, with a time in front, with parity behind
_TAIL_BYTES = 1 << 17  # more than the largest page of Ogg


def find_fault(file: BinaryIO) -> str | None:
    """What is wrong with a file as a whole, in words; None where nothing was found."""
    if missing := count_missing_bytes(file):
        return f"the file ends {missing:,} bytes too early"
    file.seek(0)
    head = file.read(4)
    find = {EBML: _find_matroska_break, b"GIF8": _find_gif_break}.get(head)
    broken = find(file) if find else None
    return None if broken is None else f"the file's structure is broken at byte {broken:,}"


def is_header_unfinished(file: BinaryIO) -> bool:
    """Whether the writer of an AVI could not go back to fill in how long it became."""
    head = file.read(8)
    return head[:4] == b"RIFF" and int.from_bytes(head[4:], "little") in _UNPATCHED


def find_torn_end(file: BinaryIO) -> str | None:
    """A notice where a file of a kind that states no length ends in the middle of a part; None elsewhere."""
    check = _end_check(file.read(1024))
    torn = check is not None and check(file)
    return "the file ends in the middle of a part: it may have been cut off" if torn else None


def _end_check(head: bytes) -> Callable[[BinaryIO], bool] | None:
    """What finds out whether a file that begins with `head` ends in the middle of a part."""
    signs = {b"FLV": _is_flv_torn, b"OggS": _is_ogg_torn, _ASF_HEADER: _is_asf_torn, EBML: _is_live_torn}
    for sign, check in signs.items():
        if head.startswith(sign):
            return check
    for size in _TS_PACKETS:
        at = size - 188 if size == 192 else 0
        if len(head) > at + 3 * size and all(head[at + n * size] == 0x47 for n in range(4)):
            return lambda file: file.seek(0, 2) % size != 0
    return None


def _is_flv_torn(file: BinaryIO) -> bool:
    """Whether the last tag of an FLV, or the size that follows each tag, is incomplete."""
    size = file.seek(0, 2)
    file.seek(5)
    at = int.from_bytes(file.read(4), "big") + 4
    while at + 11 <= size:
        file.seek(at + 1)
        at += 11 + int.from_bytes(file.read(3), "big") + 4
    return at != size


def _is_ogg_torn(file: BinaryIO) -> bool:
    """Whether the last page of an Ogg file is incomplete, or no page says that its stream ends."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read()
    at = tail.rfind(b"OggS")
    page = tail[at:]
    if at < 0 or len(page) < 27:
        return True
    lengths = page[27 : 27 + page[26]]
    whole = len(lengths) == page[26] and len(page) == 27 + page[26] + sum(lengths)
    return not whole or not page[5] & 4


_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")


def _is_asf_torn(file: BinaryIO) -> bool:
    """Whether the data of an ASF or WMV file ends before the size that it states."""
    size = file.seek(0, 2)
    at = 0
    while at + 24 <= size:
        file.seek(at)
        kind, length = file.read(16), int.from_bytes(file.read(8), "little")
        if length < 24:  # a recording whose size was never filled in
            return False
        if kind == _ASF_DATA or at + length > size:
            return at + length > size
        at += length
    return False


def _is_live_torn(file: BinaryIO) -> bool:
    """Whether a Matroska or WebM recording whose segment has no size ends within an element."""
    if find_segment_end(file):
        return False
    size = file.seek(0, 2)
    file.seek(4)
    header = _read_size(file)
    if header is None:
        return False
    file.seek(header, 1)
    while (at := file.tell()) < size:
        identity, length = read_element(file)
        if identity in (_SEGMENT, _CLUSTER):  # what is in them follows, whether or not their size is known
            continue
        if identity not in _IN_SEGMENT | _IN_CLUSTER or length is None:
            return (
                at + 12 > size
            )  # an element begins that is not whole; elsewhere unknown things are no fault
        if file.seek(length, 1) > size:
            return True
    return False


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
    return _find_break_among(file, end, _IN_SEGMENT) if end else None


def _find_break_among(file: BinaryIO, end: int, known: set[int]) -> int | None:
    """The same for the elements from the current position to `end`.

    An element that is not `known`, or a run of null bytes, is passed over where a known one or the end comes
    behind it: elsewhere it is damage.
    """
    must_be_known = False
    while (at := file.tell()) < end:
        if _skip_nulls(file, end):
            must_be_known = True
            continue
        identity, length = read_element(file)
        inside = file.tell() + (length or 0)
        strange = identity not in known
        if inside > end or (length is None and identity != _CLUSTER) or (strange and must_be_known):
            return at
        if length is None:  # a live recording: clusters without an end
            return None
        if identity == _CLUSTER and (broken := _find_break_among(file, inside, _IN_CLUSTER)) is not None:
            return broken
        file.seek(inside)
        must_be_known = strange
    return None if at == end else at


def _skip_nulls(file: BinaryIO, end: int) -> int:
    """Skip null bytes up to `end`; their number."""
    begin = at = file.tell()
    while at < end and (block := file.read(min(1 << 16, end - at))):
        left = block.lstrip(b"\0")
        at += len(block) - len(left)
        if left:
            break
    file.seek(at)
    return at - begin


def read_element(file: BinaryIO) -> tuple[int, int | None]:
    """Read an element's identity, with its marker bits, and its length; None for a length left open."""
    first = file.read(1)
    extra = 8 - first[0].bit_length() if first and first[0] else 0
    return int.from_bytes(first + file.read(extra), "big"), _read_size(file)


def count_missing_bytes(file: BinaryIO) -> int:
    """How many bytes are missing at the end of a file, by its own sizes; 0 where it has none."""
    size = file.seek(0, 2)
    file.seek(0)
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
        if length < 8 or head[4:8] not in _BOXES:  # 0: up to the end of the file; else no box of the film
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
        if head[:4] != b"RIFF" or length in _UNPATCHED:
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
