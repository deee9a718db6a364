"""How many bytes latents take in a file that grows: rows of one size, or chunks that each have their own."""

from vidlatent.io.coded.chunks import Chunks
from vidlatent.io.journal import Differs, Piece


class Rows:
    """Latents of `row_bytes` bytes each."""

    def __init__(self, row_bytes: int) -> None:
        self._row_bytes = row_bytes

    def bytes(self, frames: int) -> int:
        """How many bytes so many latents take."""
        return frames * self._row_bytes

    def add(self, added: int, sides: bytes) -> str:
        """Take note of a piece; nothing has to be remembered of it."""
        return ""

    def compare(self, begin: int, whole: bool, sides: bytes) -> None:
        """Say nothing: their bytes are all there is, and a part of a piece may be there."""

    def keep(self, frames: int) -> None:
        """Forget what is beyond so many latents."""

    def restore(self, piece: Piece) -> bool:
        """Take note of a piece that an earlier run has written; False where its record is not whole."""
        return True


class Chunked:
    """Coded latents in `chunks`: where each ends, and what its form wants to have beside it."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self.ends: list[int] = []
        self.sides: list[bytes] = []

    def bytes(self, frames: int) -> int:
        """How many bytes so many latents take: whole chunks."""
        return self.ends[self._chunks.count(frames) - 1] if frames else 0

    def add(self, added: int, sides: bytes) -> str:
        """Take note of a chunk; its record for the journal."""
        self.ends.append(added + (self.ends[-1] if self.ends else 0))
        self.sides.append(sides)
        return f"{added} {sides.hex()}"

    def compare(self, begin: int, whole: bool, sides: bytes) -> None:
        """Raise Differs unless the chunk from latent `begin` on is there, as a whole and with these sides."""
        if not whole or self.sides[self._chunks.count(begin)] != sides:
            raise Differs

    def keep(self, frames: int) -> None:
        """Forget all chunks beyond so many latents."""
        count = self._chunks.count(frames)
        del self.ends[count:], self.sides[count:]

    def restore(self, piece: Piece) -> bool:
        """Take note of a chunk that an earlier run has written; False where its record is not whole."""
        added, _, sides = piece.beside.partition(" ")
        known = len(self.ends)
        if piece.count <= known * self._chunks.length or self._chunks.count(piece.count) != known + 1:
            return False
        try:
            self.add(int(added), bytes.fromhex(sides))
        except ValueError:
            return False
        return int(added) > 0
