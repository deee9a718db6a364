"""Checksums of a `.latent`: one per block of its data, and one for the whole."""

import hashlib
from collections.abc import Mapping

from vidlatent.io.latent import strict_json as js
from vidlatent.io.latent.layout import TensorEntry

BLOCK_BYTES = 1 << 20
BLOCK_RANGE = (1 << 12, 1 << 26)  # what a header may ask a reader to hold
DIGEST_BYTES = 32


class BlockDigests:
    """The sha256 of every block of a stream of bytes; the stream may come in pieces of any size."""

    def __init__(self, block_bytes: int = BLOCK_BYTES) -> None:
        self._block_bytes = block_bytes
        self._done: list[bytes] = []
        self._open = hashlib.sha256()
        self._filled = 0

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the stream."""
        view = memoryview(data)
        while len(view):
            piece = view[: self._block_bytes - self._filled]
            self._open.update(piece)
            self._filled += len(piece)
            view = view[len(piece) :]
            if self._filled == self._block_bytes:
                self._close_block()

    def digests(self) -> bytes:
        """The digests of all blocks, 32 bytes each; call it once, at the end of the stream."""
        if self._filled:
            self._close_block()
        return b"".join(self._done)

    def _close_block(self) -> None:
        self._done.append(self._open.digest())
        self._open, self._filled = hashlib.sha256(), 0


def root_checksum(metadata: Mapping[str, str], tensors: Mapping[str, TensorEntry], digests: bytes) -> str:
    """One checksum for the whole file: of the header's facts and of every block's checksum."""
    said = {key: text for key, text in metadata.items() if key != "checksum"}
    where = {name: [entry.dtype, list(entry.shape), entry.start] for name, entry in tensors.items()}
    return hashlib.sha256(js.dump([said, where]).encode() + digests).hexdigest()
