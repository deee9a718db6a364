"""What the header of a `.latent`, its tensors and its clock must agree on.

Everything here raises ValueError; whoever knows the file's name adds it.
"""

from collections.abc import Mapping

import numpy as np

from vidlatent.clock import FrameClock
from vidlatent.dtypes import STORED_DTYPES
from vidlatent.io.coded.floats import Floats
from vidlatent.io.coded.form import CODES, Form, Shape
from vidlatent.io.coded.table import FORMS, find_form
from vidlatent.io.latent import strict_json as js
from vidlatent.io.latent.digests import DIGEST_BYTES
from vidlatent.io.latent.header import MAX_SIDE_PX, LatentHeader
from vidlatent.io.latent.layout import TensorEntry
from vidlatent.io.latent.nested import RequiresMore

FORMAT = "vidlatent"
FORMAT_MAJOR = 1
CONTAINER_KEYS = ("format", "format_version", "time_base", "block_bytes", "checksum")
MAX_PIXELS = 1 << 28  # of one padded frame: 16384 × 16384
MAX_TIME_BASE = (1 << 31) - 1  # numerator and denominator: what video containers can say
PARTS = ("latents", "logvar", "first_frame")  # tensors of the shape of the latents, stored in one form
MAX_PTS = (1 << 62) - 1  # the difference of two of them fits int64


def check_tensors(header: LatentHeader, tensors: Mapping[str, TensorEntry], block_bytes: int) -> Form:
    """The form of a file's latents; raises where its tensors are not the ones that its header promises."""
    js.demand(tensors, "tensors", ("latents", "pts", "checksums"))
    form, shape = _find_form(header, tensors["latents"]), find_shape(header, tensors)
    check_sizes(header, *shape)
    frames, block_count = header.source.frames, -(-tensors["checksums"].start // block_bytes)
    _expect(tensors, "pts", "I64", (frames,))
    _expect(tensors, "durations", "I64", (frames,))
    for part in (part for part in PARTS if part in tensors):
        kinds = {name_tensor(part, n): kind for n, kind in form.kinds(shape, tensors[part].nbytes).items()}
        js.demand(tensors, "tensors", kinds)
        for name, kind in kinds.items():
            _expect(tensors, name, *kind)
    _expect(tensors, "checksums", "U8", (block_count, DIGEST_BYTES))
    if "audio" in tensors:
        _expect(tensors, "audio", "U8", (tensors["audio"].nbytes,))
    if list(tensors)[-1] != "checksums":
        raise ValueError(f"checksums: expected to be the last tensor, got {list(tensors)[-1]!r}")
    if ("logvar" in tensors) != (header.posterior == "full"):
        has = "a" if "logvar" in tensors else "no"
        raise ValueError(f"posterior {header.posterior}, but there is {has} tensor `logvar`")
    return form


def name_tensor(part: str, name: str) -> str:
    """The name in the file of the codes of a part, or of one of their side tensors."""
    return part if name == CODES else f"{part}.{name}"


def find_shape(header: LatentHeader, tensors: Mapping[str, TensorEntry]) -> Shape:
    """[t, C, h, w] of the latents: as the header says it, else that of the tensor."""
    return tuple(header.stored["shape"] if header.stored else tensors["latents"].shape)  # type: ignore


def _find_form(header: LatentHeader, latents: TensorEntry) -> Form:
    """The form that the latents of a file are in; raises where there is no such form, or it is not known."""
    if header.stored:
        if header.stored["form"] not in FORMS:
            raise RequiresMore(f"stored as {js.brief(header.stored['form'])}: not known to this vidlatent")
        return find_form(header.stored)
    if latents.dtype not in STORED_DTYPES or len(latents.shape) != 4 or not all(latents.shape):
        wanted = f"[t, C, h, w] of {' or '.join(STORED_DTYPES)}"
        raise ValueError(f"latents: expected {wanted}, got {latents.dtype} {list(latents.shape)}")
    return Floats(latents.dtype)


def check_sizes(header: LatentHeader, t: int, channels: int, h: int, w: int) -> None:
    """Raise where latents [t, channels, h, w] cannot be what the header's clip becomes on its grid."""
    source, pad, grid = header.source, header.pad, header.grid
    if not source.frames:
        raise ValueError("source.frames: a clip has at least one frame, got 0")
    for what, found, promised, unit in (
        ("frames", grid.frames(t), source.frames + pad.frames, "frames"),
        ("rows", h * grid.space, source.height + pad.rows, "pixels"),
        ("columns", w * grid.space, source.width + pad.columns, "pixels"),
    ):
        if found != promised:
            raise ValueError(
                f"latents {[t, channels, h, w]} decode to {found} {unit} ({what}), "
                f"the header promises {promised} with padding"
            )
    if max(h, w) * grid.space > MAX_SIDE_PX or h * w * grid.space**2 > MAX_PIXELS:
        raise ValueError(f"frames of {w * grid.space}x{h * grid.space} pixels are beyond any memory")
    for what, values in (("scale", header.scale), ("shift", header.shift)):
        if len(values) not in (1, channels):
            raise ValueError(f"{what}: expected 1 or {channels} values, got {len(values)}")


def check_clock(clock: FrameClock) -> None:
    """Raise where times run backwards, or are too large for the arithmetic that is done with them."""
    pts, durations = clock.pts, clock.durations
    js.integer(clock.time_base.numerator, "time_base numerator", 1, MAX_TIME_BASE)
    js.integer(clock.time_base.denominator, "time_base denominator", 1, MAX_TIME_BASE)
    if len(pts) and not -MAX_PTS <= pts.min() <= pts.max() <= MAX_PTS:
        raise ValueError(f"pts: expected less than 2^62 ticks from zero, got {pts.min()} to {pts.max()}")
    backwards = np.flatnonzero(np.diff(pts) < 0)
    if len(backwards):
        i = int(backwards[0])
        raise ValueError(f"pts: time runs backwards, {pts[i]} to {pts[i + 1]} at frame {i + 1}")
    if len(durations) and not 0 <= durations.min() <= durations.max() <= MAX_PTS:
        raise ValueError(f"durations: expected 0 to 2^62 ticks, got {durations.min()} to {durations.max()}")


def _expect(tensors: Mapping[str, TensorEntry], name: str, dtype: str, shape: tuple[int, ...]) -> None:
    if name not in tensors:
        return
    found = tensors[name]
    if (found.dtype, found.shape) != (dtype, shape):
        raise ValueError(f"{name}: expected {dtype} {list(shape)}, got {found.dtype} {list(found.shape)}")
