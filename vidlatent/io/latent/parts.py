"""The latents of a file that is being written, and their logvar: what grows, and can be gone on with."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

from vidlatent.files import naming_disk_errors, open_own
from vidlatent.io.journal import Differs, Journal, Piece
from vidlatent.io.latent.digests import BlockDigests
from vidlatent.io.latent.sizes import Chunked, Rows

_COPY_BYTES = 1 << 20


class LatentParts:
    """The files that latents are appended to: the unfinished `.latent`, and one for logvar if that is stored.

    In the first, latents begin after `start` bytes of zeros, the room for the header. `frames` latents are
    there; `sizes` knows how many bytes they take. With `keep` those of an earlier run stay, as far as its
    journal knows them and they are as they were written.
    """

    def __init__(
        self, paths: Sequence[Path], start: int, sizes: Rows | Chunked, journal: Journal, keep: bool
    ) -> None:
        self._start, self._sizes, self._journal = start, sizes, journal
        self._logvar_path = paths[1] if len(paths) > 1 else None
        self._files: list[BinaryIO] = []
        self.frames = 0
        self.digests = BlockDigests()
        try:
            self._open(paths, keep)
            self._take_over(journal.read())
        except BaseException:
            self.remove_rest()
            raise

    @property
    def file(self) -> BinaryIO:
        """The unfinished `.latent`, to be finished once all latents are there."""
        return self._files[0]

    @property
    def logvar(self) -> BinaryIO | None:
        """The logvar of all latents, where it is stored."""
        return self._files[1] if len(self._files) > 1 else None

    def put(self, begin: int, count: int, raw: Sequence[memoryview], sides: bytes = b"") -> None:
        """Write `count` latents from number `begin` on: the bytes of each part, and their part of the sides.

        Those that are there already are compared and dropped. Raises Differs where they are others.
        """
        known = min(self.frames - begin, count)
        if known < 0:
            raise ValueError(f"latents from {begin} on, where {self.frames} are there")
        cut = self._sizes.bytes(begin + known) - self._sizes.bytes(begin)
        if known:
            self._sizes.compare(begin, known == count and cut == len(raw[0]), sides)
            self._compare(begin, [part[:cut] for part in raw])
        if known < count:
            self._add(count - known, [part[cut:] for part in raw], sides)

    def restart(self) -> None:
        """Drop all latents."""
        self._take_over(())

    def close(self) -> None:
        """Close all files; they stay."""
        self._journal.close()
        for file in self._files:
            with suppress(OSError):  # a full disk refuses the last bytes again; they are not needed
                file.close()

    def remove_rest(self) -> None:
        """Remove what is of no use once the `.latent` is complete, or given up."""
        self.close()
        self._journal.remove()
        if self._logvar_path is not None:
            with suppress(OSError):  # what cannot be removed is taken over by the next run
                self._logvar_path.unlink(missing_ok=True)

    def _open(self, paths: Sequence[Path], keep: bool) -> None:
        first, *others = paths
        self._files.append(first.open("rb+"))
        for path in others:
            with naming_disk_errors(path):
                if not keep:
                    path.unlink(missing_ok=True)  # of a run that was killed
                self._files.append(os.fdopen(open_own(path), "rb+"))

    def _take_over(self, pieces: Iterable[Piece]) -> None:
        """Keep the first of `pieces` that are here as they were written, and nothing that follows them."""
        self.frames = 0
        self._sizes.keep(0)
        good = list(takewhile(self._is_here, pieces))
        self.frames = good[-1].count if good else 0
        self._sizes.keep(self.frames)
        self.file.seek(0)
        self.file.write(bytes(self._start))
        self.digests = BlockDigests()
        size = self._sizes.bytes(self.frames)
        self._read_on(self.file, size, self.digests)
        for file, start in self._places():
            file.truncate(start + size)
            file.seek(0, 2)
        self._journal.begin(good)

    def _is_here(self, piece: Piece) -> bool:
        """Whether the next piece is here as it was written; then it counts."""
        if not self._sizes.restore(piece):
            return False
        digests = []
        begin, end = self._sizes.bytes(self.frames), self._sizes.bytes(piece.count)
        for file, start in self._places():
            digest = hashlib.sha256()
            file.seek(start + begin)
            self._read_on(file, end - begin, digest)
            digests.append(digest.hexdigest())
        if tuple(digests) != piece.digests:
            return False
        self.frames = piece.count
        return True

    def _places(self) -> list[tuple[BinaryIO, int]]:
        """The files, and where latents begin in each."""
        return list(zip(self._files, (self._start, 0), strict=False))

    def _read_on(self, file: BinaryIO, left: int, digest: "hashlib._Hash | BlockDigests") -> None:
        """Let `digest` have so many bytes of a file, as far as they are there."""
        while left and (block := file.read(min(left, _COPY_BYTES))):
            digest.update(block)
            left -= len(block)

    def _compare(self, begin: int, raw: Sequence[memoryview]) -> None:
        """Raise Differs unless the latents from `begin` on are these."""
        for (file, start), part in zip(self._places(), raw, strict=True):
            file.seek(start + self._sizes.bytes(begin))
            same = file.read(len(part)) == part
            file.seek(0, 2)
            if not same:
                raise Differs

    def _add(self, latents: int, raw: Sequence[memoryview], sides: bytes) -> None:
        """Write so many latents more, the bytes of each part, and note them in the journal."""
        for file, part in zip(self._files, raw, strict=True):
            file.write(part)
        self.digests.update(raw[0])
        self.frames += latents
        beside = self._sizes.add(len(raw[0]), sides)
        if self._journal.is_kept:
            for file in self._files:
                file.flush()
            digests = (hashlib.sha256(part).hexdigest() for part in raw)
            self._journal.add(Piece(self.frames, tuple(digests), beside))
