"""The index of an MP4 or MOV file, where it says what its tracks are."""

from typing import BinaryIO

_MOST_BYTES = 1 << 26


def read_index(file: BinaryIO) -> bytes:
    """The contents of the box `moov`, or its first part where it is huge."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if head[4:8] == b"moov":
            return file.read(min(length or _MOST_BYTES, _MOST_BYTES))
        if length < 8:
            return b""
        at += length
