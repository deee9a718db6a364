"""The key of an entry: everything that can change the latents, and nothing else.

sha256 over canonical JSON of the source's bytes (as their sha256), the recipe, the weights and the number
below. Options left at their default are left out, so an option that a later version brings changes no key
that exists. File names, times, worker counts and memory limits are not in it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from fractions import Fraction

from vidlatent.engine.model import Model
from vidlatent.io.latent.strict_json import dump
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.cache.frames import CUT
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.json_values import spell_fraction, to_json_values

# Raised by hand when reading, padding or encoding gives other latents than before for the same recipe.
# Not the version of the package: a release that changes no latent must not cost a week of encoding.
CODE_VERSION = 1

_SPEED_ONLY = ("threads",)  # of ReadOptions: these change no pixel


@dataclass(frozen=True)
class ModelIdentity:
    """What decides over a model's latents and the facts beside them: weights, config, dtype, device."""

    facts: Mapping[str, object]

    @classmethod
    def of(cls, model: Model) -> "ModelIdentity":
        """The identity of a loaded model; the kind of device is part of it, as it decides how sums round."""
        spec, settings = model.spec, model.spec.changed(latents=True)
        return cls(
            {
                **({"settings": settings} if settings else {}),
                "name": spec.name,
                "config": dict(spec.config),
                "grid": spec.grid,
                "channels": spec.channels,
                "scale": list(spec.scale),
                "shift": list(spec.shift),
                "weights_sha256": model.weights_sha256,
                "compute_dtype": model.runtime.dtype_name,
                "device_kind": model.runtime.device.type,
            }
        )


def make_entry_key(source_sha256: str, recipe: Recipe, model: ModelIdentity) -> str:
    """The key of what `model` makes of these source bytes by this recipe: 64 hexadecimal digits."""
    return _hash(_describe_clip(recipe, model) | {"source": source_sha256})


def make_off_grid_key(source_sha256: str, recipe: Recipe, model: ModelIdentity, exact: bool) -> str:
    """The key of the same for a clip whose frames do not fit the grid: there the rule for those decides.

    A clip that fits has the same key by every rule. With `exact` a clip of fewer frames is left out.
    """
    said = _describe_clip(recipe, model) | {"off_grid": recipe.frames_rule, "exact": exact}
    return _hash(said | {"source": source_sha256})


def _describe_clip(recipe: Recipe, model: ModelIdentity) -> dict[str, object]:
    """What counts of a recipe once it is known which frames of which size a clip has."""
    return describe(replace(recipe, chunk_s=None, take=None, smaller=None, frames_rule=CUT), model)


def _hash(said: Mapping[str, object]) -> str:
    return hashlib.sha256(dump(said).encode()).hexdigest()


def make_recipe_id(recipe: Recipe, model: ModelIdentity) -> str:
    """The name of what a whole run asks for, before any clip is seen: 16 hexadecimal digits."""
    return hashlib.sha256(dump(describe(recipe, model)).encode()).hexdigest()[:16]


def describe(recipe: Recipe, model: ModelIdentity) -> dict[str, object]:
    """A recipe and its model in full, as JSON values."""
    facts = _recipe_facts(recipe)
    for name in ("chunk_s", "take", "smaller"):
        if getattr(recipe, name) is not None:
            facts[name] = getattr(recipe, name)
    if recipe.frames_rule != CUT:
        facts["frames_rule"] = recipe.frames_rule
    return to_json_values({"code": CODE_VERSION, "recipe": facts, "model": model.facts}, _convert)


def _recipe_facts(recipe: Recipe) -> dict[str, object]:
    """A recipe without those of its settings that change nothing in this case."""
    facts: dict[str, object] = {
        "read": describe_read(recipe.read),
        "posterior": recipe.posterior,
        "plan": recipe.plan,
    }
    if recipe.read.fps is not None and (recipe.read.start, recipe.read.end) != (None, None):
        facts["slots"] = "of the clip"  # until 0.1 those of a span were counted from its own first frame
    if recipe.posterior == "sample":  # otherwise nothing is drawn
        facts["seed"] = recipe.seed
        facts["noise"] = "of each clip"  # until 0.1 all clips had the same
    stored = {"store": recipe.store, "pack": recipe.pack, "measure": recipe.measure}
    facts |= {name: value for name, value in stored.items() if value}
    if recipe.allowed is not None:
        facts["budget"] = recipe.allowed.facts()
    if recipe.first_frame:
        facts["first_frame"] = True
    if recipe.buckets and recipe.read.size is None:  # else the bucket has become the size
        facts["buckets"] = sorted(recipe.buckets)
    return facts


def describe_read(read: ReadOptions) -> dict[str, object]:
    """The options that differ from a plain read of everything, as JSON values."""
    facts = to_json_values(read, _convert)
    changed = {name: value for name, value in facts.items() if name not in _SPEED_ONLY}
    if "size" not in changed:  # nothing is fitted into anything
        changed.pop("fit", None)
    return changed


def parse_read(facts: Mapping[str, object]) -> ReadOptions:
    """The inverse of `describe_read`."""
    times = {name: Fraction(str(facts[name])) for name in ("start", "end", "fps") if name in facts}
    tuples = {name: tuple(facts[name]) for name in ("size", "crop") if name in facts}  # type: ignore[arg-type]
    return ReadOptions(**{**facts, **times, **tuples})  # type: ignore[arg-type]


def _convert(value: object) -> object:
    """Dataclasses as their fields, those at their default left out; fractions as numerator/denominator."""
    if not is_dataclass(value):
        return spell_fraction(value)
    changed = (f for f in fields(value) if f.default is MISSING or getattr(value, f.name) != f.default)
    return {f.name: getattr(value, f.name) for f in changed}
