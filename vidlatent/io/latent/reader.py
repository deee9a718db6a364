"""Reads a `.latent`: its header is checked before it is used, its latents are read by the slice.

The container is a safetensors file that is written as it grows; docs/latent-format.md describes it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Self

import numpy as np
import torch
from torch import Tensor

from vidlatent.clock import FrameClock
from vidlatent.errors import BadLatentFile, UsageError, parameter
from vidlatent.files import naming_read_errors
from vidlatent.io.coded.chunks import Chunks
from vidlatent.io.coded.form import CODES, Opened
from vidlatent.io.coded.int8 import OpenedInt8
from vidlatent.io.file_parts import FilePart, MappedPart, Openable
from vidlatent.io.latent import strict_json as js
from vidlatent.io.latent.blocks import CheckedBlocks, ReadInto
from vidlatent.io.latent.checks import (
    CONTAINER_KEYS,
    FORMAT,
    FORMAT_MAJOR,
    PARTS,
    check_clock,
    check_tensors,
    find_shape,
    name_tensor,
)
from vidlatent.io.latent.digests import BLOCK_RANGE
from vidlatent.io.latent.header import LatentHeader
from vidlatent.io.latent.layout import FileLayout, read_layout
from vidlatent.io.latent.nested import RequiresMore
from vidlatent.io.tensors import NUMPY_DTYPES, first_not_finite
from vidlatent.normalising import normalise

_COPY_BYTES = 1 << 20
_LACKS = {  # what not every file has, and how to make one that has
    "logvar": ("logvar", f"encode with {parameter('posterior')} full to keep it"),
    "first_frame": (
        "latents of its first frame alone",
        f"cache with {parameter('first_frame')} to have them",
    ),
}
_HINT = "make it again from its source with `vidlatent encode`"


class LatentReader:
    """Reads one `.latent`: `header` facts and `clock` at once, latents by the slice. A context manager.

    Threads may share one; a forked process must open its own. `part` is (offset, bytes) where the
    `.latent` lies inside another file, such as an uncompressed tar. With `mapped` latents are copied out of a
    memory map of the file instead of being read by system calls; that is faster for repeated random access.
    A file in a store cannot be mapped: the parts that are read are fetched.
    """

    def __init__(
        self, path: Path | Openable, part: tuple[int, int] | None = None, mapped: bool = False
    ) -> None:
        self.path, self.part = path, part
        self._offset = part[0] if part else 0
        self._lock = Lock()
        self._blocks: CheckedBlocks | None = None  # once anything is read through them
        with _naming_file(path):
            self._map = MappedPart(path, part) if mapped and isinstance(path, Path) else None
            self._file = self._map or (path.open("rb") if part is None else FilePart(path, *part))
            try:
                self._layout = _read_own_layout(self._file, path)
                self._read_header()
            except BaseException:
                self._file.close()
                raise

    def _read_header(self) -> None:
        metadata = self._layout.metadata
        facts = {key: text for key, text in metadata.items() if key not in CONTAINER_KEYS}
        self.header = LatentHeader.from_metadata(facts)
        self._block_bytes = js.integer(
            js.load(metadata["block_bytes"], "block_bytes"), "block_bytes", *BLOCK_RANGE
        )
        self._form = check_tensors(self.header, self._layout.tensors, self._block_bytes)
        self._shape = find_shape(self.header, self._layout.tensors)
        self._opened = {name: self._open_part(name) for name in PARTS if name in self._layout.tensors}
        timed = "durations" in self._layout.tensors
        pts = self._read_small("pts")  # in the order of the file: in a store both come with one request
        durations = self._read_small("durations") if timed else np.zeros(0, np.int64)
        self.clock = FrameClock(_parse_time_base(metadata["time_base"]), pts, durations)
        check_clock(self.clock)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[t, C, h, w] of all latents."""
        return self._shape

    @property
    def frames(self) -> int:
        """Latent frames in the file."""
        return self.shape[0]

    @property
    def dtype(self) -> str:
        """The dtype of the latents that are read: F32, F16 or BF16."""
        return self._form.dtype

    @property
    def form(self) -> str:
        """The form in which they are stored, where that is not as such floats: its name, else empty."""
        return self._form.name

    @property
    def has_logvar(self) -> bool:
        """Whether the posterior's raw logvar is stored beside its mean."""
        return "logvar" in self._layout.tensors

    @property
    def has_audio(self) -> bool:
        """Whether the source's audio is in the file."""
        return "audio" in self._layout.tensors

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, which: int | slice) -> Tensor:
        """Latents [C, h, w] of one latent frame, or [t, C, h, w] of a slice of them: `latents[0:8]`."""
        if not isinstance(which, slice):
            number = range(self.frames)[which]  # which raises IndexError, as lists do
            return self.read(number, number + 1)[0]
        wanted = range(self.frames)[which]
        if not wanted:
            return self.read(0, 0)
        low, high = min(wanted), max(wanted)
        found = self.read(low, high + 1)
        return found if wanted.step == 1 else found[[number - low for number in wanted]]

    def __repr__(self) -> str:
        t, channels, h, w = self.shape
        state = ", closed" if self._file.closed else ""
        return (
            f"LatentReader({self.path}: {t} latents of {channels}x{h}x{w}, {self.form or self.dtype}, "
            f"by {self.header.model}{state})"
        )

    def read(self, start: int = 0, stop: int | None = None, normalised: bool = False) -> Tensor:
        """Latents [stop - start, C, h, w] of latent frames [start, stop), or of all, in raw posterior units.

        With `normalised` they are as a diffusion model is fed them: (z - shift) · scale, in float32. Only
        their own bytes are read, so their checksums cannot be looked at; `read_checked` does that.
        """
        found = self._read_slice("latents", start, self.frames if stop is None else stop, self._read_into)
        if not normalised:
            return found
        return normalise(found, self.header.scale, self.header.shift, axis=-3)

    def read_checked(self, start: int, stop: int, name: str = "latents") -> Tensor:
        """As `read`, from blocks that match their checksums; for reading a clip from front to back.

        `name` is "latents", or one of those that not every file has: "logvar", "first_frame". The first call
        checks what opening has read as well: the header and the clock.
        """
        self._demand(name)
        with _naming_file(self.path):
            read_into = self._open_blocks().read_into
        return self._read_slice(name, start, stop, read_into)

    def read_raw(self, start: int, stop: int, name: str = "latents") -> tuple[Tensor, Tensor]:
        """Codes I8 [stop - start, C, h, w] and steps F32 [stop - start, C] of latents stored as int8.

        A latent is its code times the step of its latent frame and channel. `name` is as in `read_checked`.
        """
        self._demand(name)
        opened = self._opened[name]
        if not isinstance(opened, OpenedInt8):
            stored = self._form.name or f"{self.dtype} floats"
            raise BadLatentFile(
                f"{self.path}: stored as {stored}, which have no codes and steps",
                f"leave {parameter('raw')} out, or store latents as int8",
            )
        self._check_span(start, stop)
        with _naming_file(self.path):
            return opened.split(self._read_codes(name, start, stop, self._read_into), start, stop)

    def read_logvar(self, start: int, stop: int) -> Tensor:
        """Raw logvar [stop - start, C, h, w] of latent frames [start, stop)."""
        self._demand("logvar")
        return self._read_slice("logvar", start, stop, self._read_into)

    @property
    def has_first_frame(self) -> bool:
        """Whether latents of the first frame alone are stored beside those of the clip."""
        return "first_frame" in self._layout.tensors

    def read_first_frame(self, start: int, stop: int) -> Tensor:
        """Latents [stop - start, C, h, w] of a clip that is the first frame, and then zeros."""
        self._demand("first_frame")
        return self._read_slice("first_frame", start, stop, self._read_into)

    def _demand(self, name: str) -> None:
        """Raise BadLatentFile where the file has no tensor of this name."""
        if name not in self._layout.tensors:
            lacks, hint = _LACKS[name]
            raise BadLatentFile(f"{self.path}: holds no {lacks}", hint)

    def open_audio(self) -> FilePart | None:
        """Open the audio, a file inside this one, once it was checked; None without. The caller closes it."""
        if not self.has_audio:
            return None
        with _naming_file(self.path):
            self._open_blocks().check_tensor("audio")
        entry, offset = self._layout.tensors["audio"], self._offset + self._layout.data_start
        return FilePart(self.path, offset + entry.start, entry.stop - entry.start)

    def verify(self) -> None:
        """Read everything, block by block, and raise BadLatentFile that names the first damaged block."""
        with _naming_file(self.path):
            CheckedBlocks(self._layout, self._block_bytes, self._read_into).check_all()
        rows = max(1, _COPY_BYTES // self._layout.tensors["latents"].row_bytes)
        chunks = self._form.chunks or Chunks(rows)
        for name in self._opened:
            for span in chunks.spans(self.frames):
                self._read_slice(name, *span, self._read_into)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_blocks(self) -> CheckedBlocks:
        """The data as checked blocks; those of the clock and of side tensors are read again."""
        if self._blocks is None:
            blocks = CheckedBlocks(self._layout, self._block_bytes, self._read_into)
            blocks.check_tensor("pts")
            blocks.check_tensor("durations")
            for name in (name for part in self._opened for name in self._name_sides(part)):
                blocks.check_tensor(name)
            self._blocks = blocks
        return self._blocks

    def _name_sides(self, part: str) -> dict[str, str]:
        """The side tensors of a part: their names in the file, and those that its form gives them."""
        kinds = self._form.kinds(self._shape, self._layout.tensors[part].nbytes)
        return {name_tensor(part, name): name for name in kinds if name != CODES}

    def _open_part(self, part: str) -> Opened:
        sides = {name: self._read_small(full) for full, name in self._name_sides(part).items()}
        try:
            return self._form.open(self._shape, self._layout.tensors[part].nbytes, sides)
        except ValueError as e:
            raise ValueError(f"{part}: {e}") from e

    def _read_slice(self, name: str, start: int, stop: int, read_into: ReadInto) -> Tensor:
        self._check_span(start, stop)
        with _naming_file(self.path):
            codes = self._read_codes(name, start, stop, read_into)
            try:
                latents = self._opened[name].decode(codes, start, stop)
            except ValueError as e:
                raise ValueError(f"{name} of latent frames {start} to {stop}: {e}") from e
            if not self._form.finite and (bad := first_not_finite(latents)) is not None:
                raise ValueError(f"{name} of latent frame {start + bad} hold NaN or infinity")
        return latents

    def _check_span(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.frames:
            raise ValueError(f"latent frames {start} to {stop} of {self.frames}")

    def _read_codes(self, name: str, start: int, stop: int, read_into: ReadInto) -> np.ndarray:
        """The bytes that latent frames [start, stop) of a part need.

        Those of int8 are looked at in the map, if there is one: decoding writes latents elsewhere, and cannot
        fail, so nothing holds on to the map.
        """
        opened = self._opened[name]
        begin, end = (self._layout.tensors[name].start + place for place in opened.place(start, stop))
        if self._map is not None and read_into == self._read_into and isinstance(opened, OpenedInt8):
            self._refuse_closed()
            first = self._layout.data_start
            return np.frombuffer(self._map.view[first + begin : first + end], np.uint8)
        codes = torch.empty(end - begin, dtype=torch.uint8).numpy()  # torch aligns it well
        read_into(codes.data, begin)
        return codes

    def _read_small(self, name: str) -> np.ndarray:
        """All of a tensor that is small beside the latents."""
        entry = self._layout.tensors[name]
        found = np.empty(entry.shape, NUMPY_DTYPES[entry.dtype])
        self._read_into(memoryview(found).cast("B"), entry.start)
        return found.astype(found.dtype.newbyteorder("="), copy=False)

    def _refuse_closed(self) -> None:
        if self._file.closed:
            raise UsageError(
                f"{self.path}: this reader was closed", "read inside of its `with`, or open the file again"
            )

    def _read_into(self, target: memoryview, offset: int) -> None:
        self._refuse_closed()
        if self._map is not None:
            begin = self._layout.data_start + offset
            target[:] = self._map.view[begin : begin + len(target)]
            return
        with self._lock:
            self._file.seek(self._layout.data_start + offset)
            found = self._file.readinto(target)
        if found != len(target):
            raise ValueError(f"torn file: expected {len(target)} bytes at {offset}, found {found}")


def open_latent(
    path: Path | str | Openable, part: tuple[int, int] | None = None, mapped: bool = False
) -> LatentReader:
    """Open a `.latent` and check all that its header claims; the data is checked as it is read.

    `part` is (offset, bytes) where it lies inside another file; `mapped` reads through a memory map.
    """
    return LatentReader(Path(path) if isinstance(path, str) else path, part, mapped)


@contextmanager
def _naming_file(path: Path | Openable) -> Iterator[None]:
    """Turn errors about the contents of a file into BadLatentFile, which names the file."""
    try:
        with naming_read_errors(path, BadLatentFile, "name a .latent file"):
            yield
    except RequiresMore as e:
        raise BadLatentFile(f"{path}: {e}", "open it with a newer vidlatent") from e
    except ValueError as e:
        raise BadLatentFile(f"{path}: {e}", _HINT) from e


def _read_own_layout(file: BinaryIO, path: Path | Openable) -> FileLayout:
    """Read the layout of a file, which must be of our format and major version."""
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    layout = read_layout(file, size)
    if "latent_tensor" in layout.tensors:
        raise BadLatentFile(
            f"{path}: a ComfyUI latent (tensor `latent_tensor`), not a vidlatent file",
            "load it in ComfyUI; it does not say which model or which clip it came from",
        )
    if layout.metadata.get("format") != FORMAT:
        raise BadLatentFile(
            f"{path}: a safetensors file, but not a .latent (expected format {FORMAT}, "
            f"got {js.brief(layout.metadata.get('format'))})",
            "make one with `vidlatent encode`",
        )
    js.demand(layout.metadata, "header", CONTAINER_KEYS)
    _refuse_other_major(layout.metadata["format_version"], path)
    return layout


def _refuse_other_major(text: str, path: Path | Openable) -> None:
    major, dot, minor = text.partition(".")
    if not (dot and major.isdecimal() and minor.isdecimal() and len(text) < 16):
        raise ValueError(f"format_version: expected MAJOR.MINOR, got {js.brief(text)}")
    if int(major) != FORMAT_MAJOR:
        raise BadLatentFile(
            f"{path}: container version {text}; this vidlatent reads version {FORMAT_MAJOR}",
            f"open it with a vidlatent that reads container version {int(major)}",
        )


def _parse_time_base(text: str) -> Fraction:
    numerator, _, denominator = js.string(text, "time_base", 32).partition("/")
    if not (numerator.isdecimal() and denominator.isdecimal() and int(denominator)):
        raise ValueError(f"time_base: expected N/D seconds, got {js.brief(text)}")
    return Fraction(int(numerator), int(denominator))
