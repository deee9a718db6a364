"""What a `.latent` file says about its latents: facts, their bounds, and their spelling as metadata.

Facts are checked when a `LatentHeader` is made, whether to be written or from a file that was read: so
nothing can be written that could not be read. Everything here raises ValueError; whoever knows the file's
name adds it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from vidlatent.grid import Grid
from vidlatent.io.latent import nested
from vidlatent.io.latent import strict_json as js
from vidlatent.io.picture.info import Picture
from vidlatent.windows import Plan, Tiling, TimeRule

POSTERIORS = ("mode", "sample", "full")
VIDEO, LATENTS = ORIGINS = ("video", "latents")
EXACTNESS = ("stream-equals-whole", "reference-windows")

# What a header may claim; far above any model and any clip, far below what would hurt a reader.
MAX_FRAMES = 1 << 26  # 13 days at 60 per second, and half a gigabyte of times
MAX_STRIDE = 1 << 31
MAX_SIDE_PX = 1 << 16
MAX_TIME, MAX_SPACE = 64, 256
MAX_OVERLAP = MAX_CLIP = 1 << 12
MAX_TILES = 64  # a tile advances by at least this part of its size
MAX_SEED = (1 << 64) - 1
MAX_SETTINGS, MAX_SETTING = 64, 1 << 64


@dataclass(frozen=True)
class Source:
    """The clip as it was encoded: after rotation, cuts and resizing, before any padding.

    `file` is a name without folders, `sha256` that of the whole source file where there is one.
    `frames` may be 0 until the end of the clip is known. `origin` is "latents" where no video was encoded
    here: then `file` is the file that the latents came from, if any, and times are made from a rate.
    """

    file: str
    frames: int
    width: int
    height: int
    sha256: str | None = None
    origin: str = field(default=VIDEO, metadata=nested.LATER)

    def __post_init__(self) -> None:
        js.one_of(self.origin, "source.origin", ORIGINS)
        js.string(self.file, "source.file", 1024)
        js.integer(self.frames, "source.frames", 0, MAX_FRAMES)
        js.integer(self.width, "source.width", 1, MAX_SIDE_PX)
        js.integer(self.height, "source.height", 1, MAX_SIDE_PX)
        if self.sha256 is not None:
            _check_sha256(self.sha256, "source.sha256")


@dataclass(frozen=True)
class Pad:
    """What was added to fit the grid, at the end, at the bottom and on the right; decoding crops it away."""

    frames: int = 0
    rows: int = 0
    columns: int = 0

    def __post_init__(self) -> None:
        js.integer(self.frames, "pad.frames", 0, MAX_FRAMES)  # a batch may be of any length
        js.integer(self.rows, "pad.rows", 0, MAX_SPACE - 1)
        js.integer(self.columns, "pad.columns", 0, MAX_SPACE - 1)


@cache
def our_version() -> str:
    """The version of vidlatent that is running, for the headers of the files it writes.

    It is looked up once: each look-up after a change of any folder that Python imports from, such as that of
    a script, keeps a list of the folder for as long as the process runs.
    """
    try:
        return version("vidlatent")
    except PackageNotFoundError:  # imported from a checkout that is not installed
        return "unknown"


@dataclass(frozen=True)
class LatentHeader:
    """Every fact a reader needs to decode the latents, or to feed them to a diffusion model.

    Latents are stored in raw posterior units; a diffusion model expects (z - shift) · scale, one
    value per channel or one for all. `posterior` "full" means: the mean, with its logvar beside it.
    `weights_sha256` may be empty where no file held the weights. `config` is a JSON object, opaque here.
    `picture` says how the source's frames are to be shown, as `Picture.to_json` spells it, and may have more
    members; empty, it says nothing, and the latents cannot be decoded into a film. `settings` are
    those of the model's own options that are not at their defaults, and hold for decoding. `stored` is empty
    where latents are floats; else it names their `form` (see io/coded), their `shape` [t, C, h, w], and what
    else is to be known of them; the writer of a file says it. `extra` is what
    later versions added, written back as it was: unknown metadata keys, and for the keys `grid`, `plan`,
    `source` and `pad` a JSON object of their unknown members.
    """

    model: str
    weights_sha256: str
    config: Mapping[str, object]
    grid: Grid
    plan: Plan
    source: Source
    pad: Pad = Pad()
    posterior: str = "mode"
    seed: int | None = None
    scale: tuple[float, ...] = (1.0,)
    shift: tuple[float, ...] = (0.0,)
    compute_dtype: str = "fp32"
    device_kind: str = "cpu"
    exactness: str = "reference-windows"
    picture: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, bool | int | float] = field(default_factory=dict)
    stored: Mapping[str, object] = field(default_factory=dict)
    version: str = field(default_factory=our_version)
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("model", "compute_dtype", "device_kind", "version"):
            js.string(getattr(self, name), name)
        if self.weights_sha256:
            _check_sha256(self.weights_sha256, "weights_sha256")
        _check_grid(self.grid)
        _check_plan(self.plan)
        js.one_of(self.posterior, "posterior", POSTERIORS)
        js.one_of(self.exactness, "exactness", EXACTNESS)
        _check_seed(self.posterior, self.seed)
        if 0.0 in js.numbers(self.scale, "scale"):
            raise ValueError("scale: 0 cannot be undone")
        js.numbers(self.shift, "shift")
        _check_settings(self.settings)
        _check_stored(self.stored, self.posterior)
        _check_picture(self.picture, self.source)

    def to_metadata(self) -> dict[str, str]:
        """The facts as safetensors metadata: plain strings, and JSON where there is structure."""
        said = (name for name in _PARSERS if name not in _LATER or getattr(self, name))
        plain = {name: _spell(getattr(self, name)) for name in said if name not in _OBJECTS}
        return {**self.extra, **plain, **{name: js.dump(self._spell_object(name)) for name in _OBJECTS}}

    @property
    def requires(self) -> tuple[str, ...]:
        """Names of the facts that readers of format version 1.0 do not know, and must not ignore."""
        members = (*nested.list_required(self.grid, "grid"), *nested.list_required(self.plan, "plan"))
        return (*members, *(name for name in _LATER if getattr(self, name)))

    @property
    def format_minor(self) -> int:
        """The oldest minor version of the format that can say all this: 1 where 1.0 knows too few members."""
        if self.stored:
            return 2
        more = self.source.origin != VIDEO or any(name in self.extra for name in _OBJECTS)
        return int(bool(self.requires) or more)

    def _spell_object(self, name: str) -> dict[str, object]:
        """The members of `grid`, `plan`, `source` or `pad`, those of later versions included."""
        known = nested.spell_members(getattr(self, name))
        if name == "plan" and self.requires:
            known["requires"] = self.requires
        return nested.merge_members(known, js.table(js.load(self.extra.get(name, "{}"), name), name))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "LatentHeader":
        """Parse and check `to_metadata()`; keys and members it does not know go to `extra`."""
        js.demand(metadata, "header", (name for name in _PARSERS if name not in _LATER))
        known = {name: parse(metadata[name]) for name, parse in _PARSERS.items() if name in metadata}
        extra = {key: text for key, text in metadata.items() if key not in _PARSERS}
        unknown = {name: _spell_unknown(name, metadata[name], known[name]) for name in _OBJECTS}
        extra |= {name: text for name, text in unknown.items() if text}
        return cls(**known, extra=extra)  # type: ignore[arg-type]


def _spell(fact: object) -> str:
    if isinstance(fact, str):
        return fact
    return js.dump(dict(fact) if isinstance(fact, Mapping) else fact)


def _spell_unknown(name: str, text: str, fact: object) -> str:
    """JSON of the members of an object that are not those of `fact`; empty where there are none."""
    found = js.table(js.load(text, name), name)
    if name == "plan":
        found.pop("requires", None)  # spelled anew
    more = nested.find_unknown(found, asdict(fact))  # type: ignore[call-overload]
    return js.dump(more) if more else ""


def _json_parser(what: str, build: Callable[[object], object]) -> Callable[[str], object]:
    return lambda text: build(js.load(text, what))


def _parse_grid(value: object) -> Grid:
    return Grid(**nested.read_members(Grid, value, "grid"))  # type: ignore[arg-type]


def _parse_source(value: object) -> Source:
    return Source(**nested.read_members(Source, value, "source"))  # type: ignore[arg-type]


def _parse_pad(value: object) -> Pad:
    return Pad(**nested.read_members(Pad, value, "pad"))  # type: ignore[arg-type]


def _parse_plan(value: object) -> Plan:
    nested.check_required(js.table(value, "plan").get("requires", []), _PARSERS)
    found = nested.read_members(Plan, value, "plan")
    rules = {key: _parse_rule(found[key], f"plan.{key}") for key in _RULES}
    tiles = {key: _parse_tiling(found.get(key), f"plan.{key}") for key in _TILINGS}
    return Plan(**rules, **tiles)


def _parse_rule(value: object, what: str) -> TimeRule:
    return TimeRule(**_parse_numbers(TimeRule, value, what))  # type: ignore[arg-type]


def _parse_tiling(value: object, what: str) -> Tiling | None:
    return None if value is None else Tiling(**_parse_numbers(Tiling, value, what))  # type: ignore[arg-type]


def _parse_numbers(kind: type, value: object, what: str) -> dict[str, int | bool]:
    """The members of an object of integers and flags."""
    found, types = nested.read_members(kind, value, what), {f.name: f.type for f in fields(kind)}
    return {
        name: js.flag(member, f"{what}.{name}")
        if types[name] is bool
        else js.integer(member, f"{what}.{name}", 0, MAX_STRIDE)
        for name, member in found.items()
    }


_RULES = ("encode_time", "decode_time")
_TILINGS = ("encode_tiles", "decode_tiles", "encode_columns", "decode_columns")
_OBJECTS = ("grid", "plan", "source", "pad")
_LATER = ("settings", "stored")  # unknown to version 1.0: written, and required, where they say anything
_PARSERS: dict[str, Callable[[str], object]] = {
    "model": str,
    "weights_sha256": str,
    "config": _json_parser("config", lambda value: js.table(value, "config")),
    "grid": _json_parser("grid", _parse_grid),
    "plan": _json_parser("plan", _parse_plan),
    "source": _json_parser("source", _parse_source),
    "pad": _json_parser("pad", _parse_pad),
    "posterior": str,
    "seed": _json_parser("seed", lambda value: value),
    "scale": _json_parser("scale", lambda value: js.numbers(value, "scale")),
    "shift": _json_parser("shift", lambda value: js.numbers(value, "shift")),
    "compute_dtype": str,
    "device_kind": str,
    "exactness": str,
    "picture": _json_parser("picture", lambda value: js.table(value, "picture")),
    "settings": _json_parser("settings", lambda value: js.table(value, "settings")),
    "stored": _json_parser("stored", lambda value: js.table(value, "stored")),
    "version": str,
}


def _check_sha256(text: object, what: str) -> None:
    if not re.fullmatch("[0-9a-f]{64}", js.string(text, what)):
        raise ValueError(f"{what}: expected 64 hexadecimal digits, got {js.brief(text)}")


def _check_seed(posterior: str, seed: int | None) -> None:
    if posterior == "sample":
        js.integer(seed, "seed of a sampled posterior", 0, MAX_SEED)
    elif seed is not None:
        raise ValueError(f"seed: nothing is drawn with posterior {posterior}, got {js.brief(seed)}")


def _check_picture(picture: Mapping[str, object], source: Source) -> None:
    """Raise where a picture is told of that cannot be, or that the latents are not of."""
    if not picture:
        return
    told = Picture.from_json(picture)
    if (told.width, told.height) != (source.width, source.height):
        raise ValueError(f"picture of {told.width}x{told.height}, latents of {source.width}x{source.height}")


def _check_stored(stored: Mapping[str, object], posterior: str) -> None:
    if not stored:
        return
    js.demand(stored, "stored", ("form", "shape"))
    js.string(stored["form"], "stored.form")
    shape = stored["shape"]
    if not isinstance(shape, list | tuple) or len(shape) != 4:
        raise ValueError(f"stored.shape: expected [t, C, h, w], got {js.brief(shape)}")
    for side in shape:
        js.integer(side, "stored.shape", 1, MAX_FRAMES)
    if posterior == "full":
        raise ValueError(f"posterior full is stored as floats, not as {js.brief(stored['form'])}")


def _check_settings(settings: Mapping[str, object]) -> None:
    if len(settings) > MAX_SETTINGS:
        raise ValueError(f"settings: expected at most {MAX_SETTINGS}, got {len(settings)}")
    for name, value in settings.items():
        js.string(name, "settings")
        if not isinstance(value, bool | int | float) or not abs(value) < MAX_SETTING:
            raise ValueError(f"settings.{name}: expected true, false or a number, got {js.brief(value)}")


def _check_grid(grid: Grid) -> None:
    js.integer(grid.time, "grid.time", 1, MAX_TIME)
    js.integer(grid.space, "grid.space", 1, MAX_SPACE)
    js.flag(grid.pairs, "grid.pairs")
    for name, least in (("head", 1), ("run", 0), ("least", 1), ("stride", 0)):
        js.integer(getattr(grid, name), f"grid.{name}", least, MAX_CLIP)


def _check_plan(plan: Plan) -> None:
    for key in _RULES:
        rule: TimeRule = getattr(plan, key)
        for name in (f.name for f in fields(rule) if f.type is int):
            highest = MAX_STRIDE if name == "stride" else MAX_OVERLAP
            js.integer(getattr(rule, name), f"plan.{key}.{name}", 0, highest)
    for key in _TILINGS:
        if (tiling := getattr(plan, key)) is not None:
            _check_tiling(tiling, f"plan.{key}")


def _check_tiling(tiling: Tiling, what: str) -> None:
    js.integer(tiling.size, f"{what}.size", 1, MAX_SIDE_PX)
    js.integer(tiling.step, f"{what}.step", -(-tiling.size // MAX_TILES), tiling.size)
    js.integer(tiling.blend, f"{what}.blend", 0, MAX_SIDE_PX)
    js.integer(tiling.keep, f"{what}.keep", 1, MAX_SIDE_PX)
    if tiling.whole is not None:
        js.integer(tiling.whole, f"{what}.whole", 0, MAX_SIDE_PX)
    js.integer(tiling.grain, f"{what}.grain", 1, max(1, tiling.blend))
