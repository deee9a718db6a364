"""Latents that come from no video, such as those of a diffusion model: a tensor into a `.latent`, and back.

Nothing is computed, so no weights are needed. Such a file says that it has no source, and its times are made
from a rate.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from torch import Tensor

from vidlatent.clock import FrameClock
from vidlatent.engine.checks import demand_tensor
from vidlatent.engine.model import Model
from vidlatent.errors import BadInput, UsageError, parameter
from vidlatent.files import refuse_foreign
from vidlatent.io.latent.header import LATENTS, LatentHeader, Pad, Source
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.latent.writer import LATENT, LatentWriter
from vidlatent.io.picture.info import Picture
from vidlatent.io.picture.resample import Rate
from vidlatent.io.picture.timeline import bound_rate
from vidlatent.io.picture.tonemap import SDR
from vidlatent.io.tensors import TORCH_DTYPES
from vidlatent.models import registry
from vidlatent.models.base import ModelSpec
from vidlatent.normalising import denormalise
from vidlatent.quantities import Number, to_rate

RAW, NORMALISED = "raw", "normalised"
SPACES = (RAW, NORMALISED)
AXES = "BCTHW"
UNKNOWN = "unknown"  # what computed the latents, and where


@dataclass(frozen=True)
class BareLatents:
    """Latents [C, t, h, w], raw posterior units, and their raw logvar where it is known.

    `frames`, `width` and `height` are those of the clip without its padding; None: it has none. `name` is
    that of the file they come from, if any.
    """

    latents: Tensor
    logvar: Tensor | None = None
    frames: int | None = None
    width: int | None = None
    height: int | None = None
    name: str = ""


def save_latents(
    path: Path | str,
    latents: Tensor,
    model: str | Path | Model | ModelSpec,
    fps: Number,
    space: str = RAW,
    axes: str | None = None,
) -> Path:
    """Write latents as a `.latent` that `decode` makes a film of, at `fps` frames per second.

    Latents are [B, C, t, h, w] with B = 1, or [C, t, h, w]; other orders are told by `axes`, such as "TCHW".
    `model` is whose latents they are: a name, a folder, or what `load_model` gave. `space` is "raw", as its
    encoder gives them, or "normalised", as a diffusion model does: (z - shift) · scale.
    """
    demand_tensor(latents, "latents")
    spec, path = find_spec(model), Path(path)
    refuse_foreign(path, LATENT)
    ordered = put_in_order(latents.detach().cpu(), axes, spec, "latents")
    raw = make_raw(ordered, space, spec)
    write_latents(path, BareLatents(raw), spec, parse_rate(fps), model if isinstance(model, Model) else None)
    return path


def load_latents(path: Path | str, space: str = RAW) -> Tensor:
    """The latents of a `.latent`, [1, C, t, h, w]: what `Model.decode` takes, or `normalised` in float32."""
    check_space(space)
    with open_latent(path) as reader:
        found = reader.read(normalised=space == NORMALISED)
    return found.transpose(0, 1)[None].contiguous()


def find_spec(model: str | Path | Model | ModelSpec) -> ModelSpec:
    """The facts of a model; its weights are not loaded."""
    if isinstance(model, Model):
        return model.spec
    if isinstance(model, ModelSpec):
        return model
    if model in registry.names() and model not in registry.BUNDLED:
        return registry.find(str(model))
    return registry.resolve(model).spec


def parse_rate(fps: Number) -> Fraction:
    """Frames per second as a fraction that containers can state."""
    return bound_rate(to_rate(fps))


def check_space(space: str) -> None:
    """Raise UsageError for a word that names no space."""
    if space not in SPACES:
        raise UsageError(f"{parameter('space')} {space}: unknown", f"one of {', '.join(SPACES)}")


def put_in_order(latents: Tensor, axes: str | None, spec: ModelSpec, name: str) -> Tensor:
    """Latents with their axes as told, or else as their shape tells → [C, t, h, w]."""
    if not latents.is_floating_point():
        raise BadInput(f"{name}: {latents.dtype}, expected latents as floats", "they may be in other units")
    order = _read_axes(axes, latents, name) if axes else _guess_axes(latents, spec, name)
    shape = dict(zip(order, latents.shape, strict=True))
    if shape.get("B", 1) != 1:
        raise BadInput(f"{name}: a batch of {shape['B']} clips, expected one", "save them one by one")
    if shape["C"] != spec.channels:
        told = "" if axes is None else f" as {parameter('axes')} {axes}"
        raise BadInput(
            f"{name}: {list(latents.shape)}{told} has {shape['C']} channels, {spec.name} has {spec.channels}",
            f"say whose latents they are by {parameter('model')}, and their order by {parameter('axes')}",
        )
    missing = [axis for axis in AXES if axis not in order]
    whole, given = latents[(None,) * len(missing)], [*missing, *order]
    return whole.permute([given.index(axis) for axis in AXES])[0]  # [C, t, h, w]


def _read_axes(axes: str, latents: Tensor, name: str) -> str:
    order = axes.upper()
    good = len(set(order)) == len(order) and set("CHW") <= set(order) <= set(AXES)
    if not good or len(order) != latents.dim():
        raise UsageError(
            f"{parameter('axes')} {axes}: {name} has {latents.dim()} axes, {list(latents.shape)}",
            "name each once: C (channels), T (latent frames), H, W, and B for a batch of one",
        )
    return order


def _guess_axes(latents: Tensor, spec: ModelSpec, name: str) -> str:
    """The order that the number of channels shows; raises where it does not show it."""
    orders = {5: ("BCTHW", "BTCHW"), 4: ("CTHW", "TCHW"), 3: ("CHW",)}.get(latents.dim(), ())
    fitting = [order for order in orders if latents.shape[order.index("C")] == spec.channels]
    if len(fitting) == 1:
        return fitting[0]
    said = f"{name}: {list(latents.shape)}"
    if fitting:
        raise UsageError(f"{said} may be {' or '.join(fitting)}", f"say which by {parameter('axes')}")
    raise BadInput(
        f"{said} is not {' or '.join(orders or ('BCTHW', 'CTHW'))} with the {spec.channels} channels "
        f"of {spec.name}",
        f"say whose latents they are by {parameter('model')}, and their order by {parameter('axes')}",
    )


def make_raw(latents: Tensor, space: str, spec: ModelSpec) -> Tensor:
    """Latents [C, t, h, w] in `space` → raw posterior units, in the same dtype."""
    check_space(space)
    if space == RAW:
        return latents
    refuse_unknown_units(spec)
    return denormalise(latents, spec.scale, spec.shift, axis=-4).to(latents.dtype)


def refuse_unknown_units(spec: ModelSpec) -> None:
    """Raise UsageError where scale and shift of a model are known only once its weights are read."""
    if registry.family(spec.family).learn is not None and spec.scale == (1.0,):
        raise UsageError(
            f"{spec.name}: what normalises its latents is in its weights",
            f"give them by {parameter('weights')}, or a loaded model",
        )


def write_latents(
    path: Path, bare: BareLatents, spec: ModelSpec, fps: Fraction, model: Model | None = None
) -> None:
    """Write latents into the file `path`, which appears when it is complete; `model` where it is loaded."""
    dtype = next((name for name, dtype in TORCH_DTYPES.items() if dtype == bare.latents.dtype), "F32")
    channels, _, h, w = bare.latents.shape
    header, clock = make_bare_header(bare, spec, fps, model)
    with LatentWriter(path, header, channels, h, w, dtype, bare.logvar is not None) as writer:
        writer.append(*(part.transpose(0, 1) for part in (bare.latents, bare.logvar) if part is not None))
        writer.close(clock)


def make_bare_header(
    bare: BareLatents, spec: ModelSpec, fps: Fraction, model: Model | None
) -> tuple[LatentHeader, FrameClock]:
    """The header of latents without a source, and their times."""
    grid, (_, t, h, w) = spec.grid, bare.latents.shape
    whole = (grid.frames(t), h * grid.space, w * grid.space)
    frames, height, width = (
        own or all_ for own, all_ in zip((bare.frames, bare.height, bare.width), whole, strict=True)
    )
    pads = [all_ - own for own, all_ in zip((frames, height, width), whole, strict=True)]
    if not all(0 <= pad < most for pad, most in zip(pads, (grid.step, grid.space, grid.space), strict=True)):
        raise BadInput(
            f"{bare.name or 'latents'}: {[t, h, w]} decode to {whole[0]} frames of {whole[2]}x{whole[1]}, "
            f"not to {frames} of {width}x{height}",
            f"they may be of another model: say whose by {parameter('model')}",
        )
    rate, ticks = Rate(fps), round(1 / fps / Rate(fps).time_base)
    picture = Picture(width, height, Fraction(1), SDR, 8, rate.time_base, fps)
    header = LatentHeader(
        model=spec.name,
        weights_sha256=model.weights_sha256 if model else "",
        config=spec.config,
        grid=grid,
        plan=spec.plan,
        source=Source(bare.name, frames, width, height, origin=LATENTS),
        pad=Pad(*pads),
        posterior="mode" if bare.logvar is None else "full",
        scale=spec.scale,
        shift=spec.shift,
        compute_dtype=UNKNOWN,
        device_kind=UNKNOWN,
        exactness="stream-equals-whole" if spec.exact else "reference-windows",
        settings=spec.changed(),
        picture=picture.to_json(),
    )
    count = np.arange(frames, dtype=np.int64)
    return header, FrameClock(rate.time_base, count * ticks, np.full(frames, ticks, np.int64))
