"""Dolby Vision, as far as a container says it: profile 5 holds no colours that anything else understands.

Profiles 7 and 8 carry a picture in HDR10, HLG or SDR, which is read as such. Profile 5 is IPT, and its
metadata reshape it picture by picture; taken for YCbCr it comes out green and purple.
"""

from typing import BinaryIO

from vidlatent.io.picture.boxes import read_index
from vidlatent.io.picture.integrity import EBML

FOREIGN_PROFILE = 5
_HEAD_BYTES = 1 << 20  # of a Matroska file: its tracks come first
_BOXES = (b"dvcC", b"dvvC")  # the configuration follows the name
_EXTRA_DATA = b"\x41\xed\x98"  # BlockAddIDExtraData, 24 bytes long


def read_profile(file: BinaryIO) -> int | None:
    """The Dolby Vision profile that a file's first configuration states; None where there is none."""
    head = file.read(8)
    if head[:4] == EBML:
        signs, data = (_EXTRA_DATA,), file.read(_HEAD_BYTES)
        signs = signs if any(box in data for box in _BOXES) else ()
    elif head[4:] == b"ftyp":
        signs, data = _BOXES, read_index(file)
    else:
        return None
    found = (data.find(sign) + len(sign) for sign in signs if sign in data)
    return next((data[at + 2] >> 1 for at in found if at + 2 < len(data)), None)
