"""Writes a `.latent`: latents are appended to disk as they come, and the file is renamed when complete."""

from collections.abc import Iterable
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import BinaryIO, Self

from torch import Tensor

from vidlatent.clock import FrameClock
from vidlatent.errors import BadInput
from vidlatent.files import Kind, Replacement, naming_disk_errors, partial_path
from vidlatent.io.journal import Journal, Making, is_final
from vidlatent.io.latent.checks import FORMAT, FORMAT_MAJOR, check_clock, check_sizes, check_tensors
from vidlatent.io.latent.digests import BLOCK_BYTES, DIGEST_BYTES, root_checksum
from vidlatent.io.latent.header import LatentHeader
from vidlatent.io.latent.layout import ITEM_BYTES, LENGTH, TensorEntry, pack_header, write_header
from vidlatent.io.latent.parts import LatentParts
from vidlatent.io.latent.tensors import TORCH_DTYPES, bytes_of, first_not_finite

LATENT = Kind("a .latent", (f'"format":"{FORMAT}"'.encode(),), within=1 << 16)
_PAGE_BYTES = 4096
_SPARE_BYTES = 2048  # of the header, for tensor entries and for facts known only at the end
_COPY_BYTES = 1 << 20


class LatentWriter:
    """Writes one `.latent` in constant memory; nothing appears at `path` until `close` has succeeded.

    It is a context manager: leaving it without `close`, by an error or Ctrl-C, removes the partial file.

    `making` says how the latents are made. It is noted in a journal, so that a later run can go on where
    this one is killed. Where an earlier run is to be gone on with, `frames` latents of it are there already;
    then an interruption leaves what there is.
    """

    def __init__(  # noqa: PLR0913  the shape is three numbers
        self,
        path: Path,
        header: LatentHeader,
        channels: int,
        height: int,
        width: int,
        dtype: str,
        with_logvar: bool = False,
        making: Making | None = None,
    ) -> None:
        if with_logvar != (header.posterior == "full"):
            raise ValueError(f"logvar is stored with posterior full, and only then; got {header.posterior}")
        self._path, self._header, self._dtype = path, header, dtype
        self._shape = (channels, height, width)
        self._tensors: dict[str, TensorEntry] = {}
        self._first_frame: Iterable[Tensor] | None = None
        self._room = _choose_room(header)
        self._resumes = making is not None and making.resume
        self._journal = Journal(path, making)
        self._parts: LatentParts | None = None
        logvar = partial_path(path.with_name(f"{path.name}.logvar"))
        self._target = Replacement(path, keep=self._resumes)
        places = [self._target.partial, logvar] if with_logvar else [self._target.partial]
        row_bytes = prod(self._shape) * ITEM_BYTES[dtype]
        try:
            with naming_disk_errors(path):
                if not with_logvar:
                    with naming_disk_errors(logvar):
                        logvar.unlink(missing_ok=True)  # of a run that was killed
                start = LENGTH.size + self._room
                self._parts = LatentParts(places, start, row_bytes, self._journal, self._resumes)
        except BaseException:
            self.discard()
            raise
        self._file = self._parts.file

    @property
    def frames(self) -> int:
        """How many latents are there."""
        return self._parts.frames

    @property
    def why_not(self) -> str | None:
        """Why nothing of an earlier run is there; None where there was none."""
        return self._journal.why_not

    def append(self, latents: Tensor, logvar: Tensor | None = None, at: int | None = None) -> None:
        """Write latents [t, C, h, w], and their logvar of the same shape where it is stored, to disk.

        `at` is the number of the first. Those that are there already are compared and dropped; raises Differs
        where they are others.
        """
        if (logvar is None) != (self._parts.logvar is None):
            raise ValueError("logvar must come with every latent, or with none")
        at = self.frames if at is None else at
        raw = [self._to_bytes(latents, at, "latent frame")]
        if logvar is not None:
            raw.append(self._to_bytes(logvar, at, "logvar of latent frame"))
        with naming_disk_errors(self._path):
            self._parts.put(at, raw)

    def restart(self) -> None:
        """Drop all latents."""
        with naming_disk_errors(self._path):
            self._parts.restart()

    def add_first_frame(self, latents: Iterable[Tensor]) -> None:
        """Write, when the file is closed, latents [t, C, h, w] of the first frame alone, in pieces, too."""
        self._first_frame = latents

    def close(
        self,
        clock: FrameClock,
        audio: Path | None = None,
        header: LatentHeader | None = None,
        path: Path | None = None,
    ) -> None:
        """Write what comes after the latents, then the header, and give the file its name.

        `header` and `path` replace those given at the start: some facts are known only at the end.
        """
        self._header = header or self._header
        try:
            self._check_clock(clock)
            check_sizes(self._header, self.frames, *self._shape)
            with naming_disk_errors(self._path):
                self._finish(clock, audio)
            self._target.commit(path)
        except BaseException as e:
            self._break_off(e)
            raise
        self._parts.remove_rest()

    def discard(self) -> None:
        """Remove all that was written; what was at `path` before stays."""
        if self._parts is not None:
            self._parts.remove_rest()
        self._target.discard()

    def _break_off(self, error: BaseException | None) -> None:
        """Leave what is there where a later run may go on with it; else remove it."""
        if self._resumes and error is not None and not is_final(error):
            self._parts.close()
            self._target.leave()
        else:
            self.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not self._target.done:
            self._break_off(error)

    def _check_clock(self, clock: FrameClock) -> None:
        try:
            check_clock(clock)
        except ValueError as e:  # times come from the source as they are: its fault, not ours
            raise BadInput(f"{self._path}: {e}", "repair the source's timestamps, and encode it again") from e

    def _finish(self, clock: FrameClock, audio: Path | None) -> None:
        shape = (self.frames, *self._shape)
        self._add_entry("latents", self._dtype, shape)
        if self._parts.logvar is not None:
            self._copy(self._parts.logvar)
            self._add_entry("logvar", self._dtype, shape)
        if self._first_frame is not None:
            self._write_first_frame(self._first_frame)
        for name, ticks in (("pts", clock.pts), ("durations", clock.durations)):
            if name == "pts" or len(ticks):
                self._write(ticks.astype("<i8", casting="safe").tobytes())
                self._add_entry(name, "I64", (len(ticks),))
        if audio is not None:
            with audio.open("rb") as file:
                self._add_entry("audio", "U8", (self._copy(file),))
        digests = self._parts.digests.digests()
        self._file.write(digests)
        self._add_entry("checksums", "U8", (len(digests) // DIGEST_BYTES, DIGEST_BYTES))
        self._seal(clock.time_base, digests)
        self._file.close()
        self._parts.close()

    def _write_first_frame(self, pieces: Iterable[Tensor]) -> None:
        count = 0
        for piece in pieces:
            self._write(self._to_bytes(piece, count, "latent frame of the first frame"))
            count += len(piece)
        self._add_entry("first_frame", self._dtype, (count, *self._shape))

    def _add_entry(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        start = max((entry.stop for entry in self._tensors.values()), default=0)
        self._tensors[name] = TensorEntry(dtype, shape, start)

    def _seal(self, time_base: Fraction, digests: bytes) -> None:
        metadata = self._header.to_metadata() | {
            "format": FORMAT,
            "format_version": f"{FORMAT_MAJOR}.{self._header.format_minor}",
            "time_base": f"{time_base.numerator}/{time_base.denominator}",
            "block_bytes": str(BLOCK_BYTES),
        }
        check_tensors(self._header, self._tensors, BLOCK_BYTES)
        metadata["checksum"] = root_checksum(metadata, self._tensors, digests)
        packed = pack_header(metadata, self._tensors)
        self._make_room(len(packed))
        write_header(self._file, packed, self._room)

    def _make_room(self, needed: int) -> None:
        """Move the data towards the end, last bytes first, where the header needs more room than reserved."""
        by = max(0, -(-(needed - self._room) // _PAGE_BYTES)) * _PAGE_BYTES
        start, stop = LENGTH.size + self._room, self._file.tell()
        while by and start < stop:
            size = min(_COPY_BYTES, stop - start)
            stop -= size
            self._file.seek(stop)
            block = self._file.read(size)
            self._file.seek(stop + by)
            self._file.write(block)
        self._room += by

    def _write(self, data: memoryview | bytes) -> None:
        self._file.write(data)
        self._parts.digests.update(data)

    def _copy(self, source: BinaryIO) -> int:
        source.seek(0)
        copied = 0
        while block := source.read(_COPY_BYTES):
            self._write(block)
            copied += len(block)
        return copied

    def _to_bytes(self, latents: Tensor, at: int, what: str) -> memoryview:
        if tuple(latents.shape[1:]) != self._shape:
            raise ValueError(f"expected {what}s of {list(self._shape)}, got {list(latents.shape[1:])}")
        stored = latents.detach().to("cpu", TORCH_DTYPES[self._dtype]).contiguous()
        if (bad := first_not_finite(stored)) is not None:
            raise BadInput(
                f"{self._path}: {what} {at + bad} holds NaN or infinity as {self._dtype}",
                "the weights, or a compute or storage dtype too narrow for them, give no numbers here",
            )
        return bytes_of(stored)


def _choose_room(header: LatentHeader) -> int:
    """How many bytes to reserve for the JSON header, such that the data begins on a page."""
    wanted = LENGTH.size + len(pack_header(header.to_metadata(), {})) + _SPARE_BYTES
    return -(-wanted // _PAGE_BYTES) * _PAGE_BYTES - LENGTH.size
