"""Bytes of a `.latent` that are checked as they are read: each block against its checksum.

A block is read whole, whatever is wanted of it, so this is for reading from front to back. Everything here
raises ValueError; whoever knows the file's name adds it.
"""

from collections.abc import Callable
from threading import Lock

from vidlatent.io.latent.digests import DIGEST_BYTES, BlockDigests, root_checksum
from vidlatent.io.latent.layout import FileLayout

ReadInto = Callable[[memoryview, int], None]  # fills a buffer from an offset into the data


class CheckedBlocks:
    """The data of one file in blocks of `block_bytes`; `read_into` reads it.

    Making one checks the header and the list of checksums against the checksum of the whole. The block that
    was read last is kept, because the next read mostly begins in it. Threads may share one.
    """

    def __init__(self, layout: FileLayout, block_bytes: int, read_into: ReadInto) -> None:
        self._layout, self._block_bytes, self._read_into = layout, block_bytes, read_into
        checksums = layout.tensors["checksums"]
        self._end = checksums.start
        digests = bytearray(checksums.nbytes)
        read_into(memoryview(digests), checksums.start)
        self._digests = bytes(digests)
        if layout.metadata["checksum"] != root_checksum(layout.metadata, layout.tensors, self._digests):
            raise ValueError("header and checksums do not match the checksum of the whole")
        self._lock = Lock()
        self._last: tuple[int, memoryview] | None = None

    def read_into(self, target: memoryview, offset: int) -> None:
        """Fill `target` with the bytes from `offset` on; raises where a block that they lie in is damaged."""
        filled = 0
        while filled < len(target):
            number, skip = divmod(offset + filled, self._block_bytes)
            piece = self._block(number)[skip : skip + len(target) - filled]
            target[filled : filled + len(piece)] = piece
            filled += len(piece)

    def check(self, start: int, stop: int) -> None:
        """Read all blocks that hold any of the bytes [start, stop); raises where one is damaged."""
        for number in range(start // self._block_bytes, -(-stop // self._block_bytes)):
            self._block(number)

    def check_all(self) -> None:
        """Read all the data before the checksums; raises where a block is damaged."""
        self.check(0, self._end)

    def check_tensor(self, name: str) -> None:
        """Read the blocks of a tensor, if there is one of this name; raises where one is damaged."""
        if name in self._layout.tensors:
            entry = self._layout.tensors[name]
            self.check(entry.start, entry.stop)

    def _block(self, number: int) -> memoryview:
        """The bytes of a block, which match its checksum."""
        with self._lock:
            if self._last is None or self._last[0] != number:
                self._last = None  # the old block does not stand beside the new one
                self._last = number, self._read_block(number)
            return self._last[1]

    def _read_block(self, number: int) -> memoryview:
        start = number * self._block_bytes
        block = memoryview(bytearray(min(self._block_bytes, self._end - start)))
        self._read_into(block, start)
        digest = BlockDigests(self._block_bytes)
        digest.update(block)
        if digest.digests() != self._digests[DIGEST_BYTES * number : DIGEST_BYTES * (number + 1)]:
            raise ValueError(f"block {number} does not match its checksum: damaged {self._describe(number)}")
        return block

    def _describe(self, number: int) -> str:
        """Which rows of which tensors lie in a block."""
        start, parts = number * self._block_bytes, []
        for name, entry in self._layout.tensors.items():
            first, last = max(start, entry.start), min(start + self._block_bytes, entry.stop) - 1
            if name != "checksums" and first <= last:
                rows = [(offset - entry.start) // entry.row_bytes for offset in (first, last)]
                parts.append(f"`{name}` {rows[0]} to {rows[1]}")
        return ", ".join(parts)
