"""The hash of a source's bytes, with signs of life on the way."""

import hashlib
from typing import BinaryIO

from vidlatent.io.sources.source import Beat

_BLOCK_BYTES = 1 << 20


def hash_file(file: BinaryIO, beat: Beat) -> str:
    """Hex sha256 of what is left of a file."""
    digest = hashlib.sha256()
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
        beat()
    return digest.hexdigest()
