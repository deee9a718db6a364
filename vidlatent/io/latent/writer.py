"""Writes a `.latent`: latents are appended to disk as they come, and the file is renamed when complete."""

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
from torch import Tensor

from vidlatent.clock import FrameClock
from vidlatent.errors import BadInput, parameter
from vidlatent.files import Kind, Replacement, naming_disk_errors, partial_path
from vidlatent.io.coded.floats import Floats
from vidlatent.io.coded.form import CODES, Form
from vidlatent.io.journal import Journal, Making, is_final
from vidlatent.io.latent.checks import (
    FORMAT,
    FORMAT_MAJOR,
    check_clock,
    check_sizes,
    check_tensors,
    name_tensor,
)
from vidlatent.io.latent.digests import BLOCK_BYTES, DIGEST_BYTES, root_checksum
from vidlatent.io.latent.gather import Gatherer
from vidlatent.io.latent.header import LatentHeader
from vidlatent.io.latent.layout import ITEM_BYTES, LENGTH, TensorEntry, pack_header, write_header
from vidlatent.io.latent.parts import LatentParts
from vidlatent.io.latent.sizes import Chunked, Rows
from vidlatent.io.tensors import STORED_NAMES, TORCH_DTYPES, first_not_finite

LATENT = Kind("a .latent", (f'"format":"{FORMAT}"'.encode(),), within=1 << 16)
_PAGE_BYTES = 4096
_SPARE_BYTES = 2048  # of the header, for tensor entries and for facts known only at the end
_COPY_BYTES = 1 << 20


class LatentWriter:
    """Writes one `.latent` in constant memory; nothing appears at `path` until `close` has succeeded.

    It is a context manager: leaving it without `close`, by an error or Ctrl-C, removes the partial file.

    `form` is how latents are stored: a dtype, as safetensors calls it, or a form of `io/coded`. What is coded
    in chunks is held until a chunk is full; there is no logvar beside it.

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
        form: str | Form,
        with_logvar: bool = False,
        making: Making | None = None,
    ) -> None:
        if with_logvar != (header.posterior == "full"):
            raise ValueError(f"logvar is stored with posterior full, and only then; got {header.posterior}")
        self._form = Floats(form) if isinstance(form, str) else form
        if with_logvar and self._form.name:
            raise ValueError(f"posterior full is stored as floats, not as {self._form.name}")
        self._path, self._header = path, header
        self._shape = (channels, height, width)
        self._gatherer = Gatherer(self._form.chunks)
        self._tensors: dict[str, TensorEntry] = {}
        self._first_frame: Iterable[Tensor] | None = None
        self._room = _choose_room(header)
        self._resumes = making is not None and making.resume
        self._journal = Journal(path, making)
        self._parts: LatentParts | None = None
        logvar = partial_path(path.with_name(f"{path.name}.logvar"))
        self._target = Replacement(path, keep=self._resumes)
        places = [self._target.partial, logvar] if with_logvar else [self._target.partial]
        row_bytes = prod(self._shape) * ITEM_BYTES[self._form.dtype]
        self._sizes = Chunked(self._form.chunks) if self._form.chunks else Rows(row_bytes)
        try:
            with naming_disk_errors(path):
                if not with_logvar:
                    with naming_disk_errors(logvar):
                        logvar.unlink(missing_ok=True)  # of a run that was killed
                start = LENGTH.size + self._room
                self._parts = LatentParts(places, start, self._sizes, self._journal, self._resumes)
        except BaseException:
            self.discard()
            raise
        self._file = self._parts.file

    @property
    def frames(self) -> int:
        """How many latents are on disk; less than a chunk may be held beside them."""
        return self._parts.frames

    def align(self, frames: int) -> int:
        """How many of so many latents are whole chunks: from there on they can be compared."""
        return self._form.chunks.align(frames) if self._form.chunks else frames

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
        at = max(self.frames, self._gatherer.stop) if at is None else at
        beside = None if logvar is None else self._convert(logvar, at, "logvar of latent frame")
        for begin, chunk in self._gatherer.add(at, self._convert(latents, at, "latent frame")):
            self._put(begin, chunk, beside)

    def _put(self, begin: int, chunk: Tensor, beside: Tensor | None = None) -> None:
        """Write a chunk, whose first latent has number `begin`, and its logvar where that is stored."""
        codes, sides = self._code(chunk)
        raw = [codes] if beside is None else [codes, self._code(beside)[0]]
        with naming_disk_errors(self._path):
            self._parts.put(begin, len(chunk), raw, sides)

    def _code(self, chunk: Tensor) -> tuple[memoryview, bytes]:
        """The codes of a chunk, and their part of the sides; raises BadInput where no reader takes it."""
        try:
            return self._form.code(chunk)
        except ValueError as e:
            hint = f"frames so large are stored as floats or int8: leave {parameter('pack')} out"
            raise BadInput(f"{self._path}: {e}", hint) from e

    def restart(self) -> None:
        """Drop all latents."""
        self._gatherer.restart()
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
            for begin, chunk in self._gatherer.rest():
                self._put(begin, chunk)
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
        self._add_part("latents", self.frames, self._sizes)
        if self._parts.logvar is not None:
            self._copy(self._parts.logvar)
            self._add_part("logvar", self.frames, self._sizes)
        if self._first_frame is not None:
            self._write_first_frame(self._first_frame)
        for name, ticks in (("pts", clock.pts), ("durations", clock.durations)):
            if name == "pts" or len(ticks):
                self._write_tensor(name, ticks.astype("<i8", casting="safe"))
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
        gatherer, count = Gatherer(self._form.chunks), 0
        sizes = Chunked(self._form.chunks) if self._form.chunks else self._sizes
        for piece in pieces:
            ready = self._convert(piece, count, "latent frame of the first frame")
            count += len(piece)
            for _, chunk in gatherer.add(gatherer.stop, ready):
                self._write_chunk(chunk, sizes)
        for _, chunk in gatherer.rest():
            self._write_chunk(chunk, sizes)
        self._add_part("first_frame", count, sizes)

    def _write_chunk(self, chunk: Tensor, sizes: Chunked | Rows) -> None:
        codes, sides = self._code(chunk)
        self._write(codes)
        sizes.add(len(codes), sides)

    def _add_part(self, part: str, frames: int, sizes: Chunked | Rows) -> None:
        """Add the entry of latents, or of what has their shape, and write what stands beside their codes."""
        shape = (frames, *self._shape)
        self._add_entry(part, *self._form.kinds(shape, sizes.bytes(frames))[CODES])
        if isinstance(sizes, Chunked):
            sides = self._form.sides(np.array(sizes.ends, "<i8"), b"".join(sizes.sides))
            for name, values in sides.items():
                self._write_tensor(name_tensor(part, name), values)

    def _write_tensor(self, name: str, values: np.ndarray) -> None:
        """Write a tensor that is small beside the latents."""
        self._write(np.ascontiguousarray(values).tobytes())
        self._add_entry(name, STORED_NAMES[values.dtype], values.shape)

    def _add_entry(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        start = max((entry.stop for entry in self._tensors.values()), default=0)
        self._tensors[name] = TensorEntry(dtype, shape, start)

    def _seal(self, time_base: Fraction, digests: bytes) -> None:
        self._header = replace(self._header, stored=self._describe_form())
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

    def _describe_form(self) -> dict[str, object]:
        """What the header says of a form, in which latents are no floats."""
        if not self._form.name:
            return {}
        return {"form": self._form.name, "shape": [self.frames, *self._shape], **self._form.facts()}

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

    def _convert(self, latents: Tensor, at: int, what: str) -> Tensor:
        """Latents as the form takes them; raises BadInput where they are no finite numbers."""
        if tuple(latents.shape[1:]) != self._shape:
            raise ValueError(f"expected {what}s of {list(self._shape)}, got {list(latents.shape[1:])}")
        dtype = self._form.working
        ready = latents.detach().to("cpu", TORCH_DTYPES[dtype]).contiguous()
        if (bad := first_not_finite(ready)) is not None:
            raise BadInput(
                f"{self._path}: {what} {at + bad} holds NaN or infinity as {dtype}",
                "the weights, or a compute or storage dtype too narrow for them, give no numbers here",
            )
        return ready


def _choose_room(header: LatentHeader) -> int:
    """How many bytes to reserve for the JSON header, such that the data begins on a page."""
    wanted = LENGTH.size + len(pack_header(header.to_metadata(), {})) + _SPARE_BYTES
    return -(-wanted // _PAGE_BYTES) * _PAGE_BYTES - LENGTH.size
