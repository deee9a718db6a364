"""Which models there are, and where a name, a folder or a file leads to."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from vidlatent.errors import BadWeights, UsageError, parameter
from vidlatent.files import asset
from vidlatent.models import hub
from vidlatent.models.base import Colours, Family, Hub, ModelSpec
from vidlatent.models.config_values import check_config, naming_config
from vidlatent.models.recognise import Recognised, recognise
from vidlatent.models.tensor_file import shapes_in

FAMILY_MODULES = (
    *("pocket_vae", "od_vae", "cv_vae", "wf_vae", "image_vae"),
    *("wan_vae", "hunyuan_vae", "hunyuan15_vae", "cogvideox_vae", "ltx_vae", "tae_vae", "toy_vae"),
    "diffusers.family",
)
BUNDLED = ("pocket",)  # models that come with the package, each a folder of its assets
DEFAULT = "pocket"
WEIGHT_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth")
WEIGHTS_VARIABLE = "VIDLATENT_WEIGHTS"  # folders of weight files that have the names of models
USUAL_NAMES = ("diffusion_pytorch_model.safetensors", "model.safetensors", "weights.safetensors")


@dataclass(frozen=True)
class Resolved:
    """What a name, folder or file turned out to be: the model's facts and the file of its weights."""

    spec: ModelSpec
    weights: Path | None  # None: a model that has none
    sha256: str | None = None  # what the file must hash to, where that is known


@cache
def families() -> tuple[Family, ...]:
    """All architectures, each from its file of models/."""
    return tuple(import_module(f"vidlatent.models.{module}").FAMILY for module in FAMILY_MODULES)


def specs() -> Iterator[ModelSpec]:
    """All models that have a name, and whose networks can be built here."""
    return (spec for family in families() if can_build(family) for spec in family.specs)


def can_build(family: Family) -> bool:
    """Whether the package that has the networks of a family is here; most need none."""
    return family.extra is None or find_spec(family.extra) is not None


def extras() -> dict[str, list[str]]:
    """The extras that are not installed here, and the names of the models that each would bring."""
    missing = [family for family in families() if not can_build(family)]
    return {str(family.extra): [spec.name for spec in family.specs] for family in missing}


def names() -> list[str]:
    """The names of all models."""
    return [spec.name for spec in specs()]


def find(name: str) -> ModelSpec:
    """The model of that name; raises UsageError that says which name was probably meant."""
    spec = next((spec for spec in specs() if spec.name == name), None)
    if spec is None:
        raise _unknown(name)
    return spec


def family(name: str) -> Family:
    """The architecture that a ModelSpec's `family` names."""
    return next(f for f in families() if f.name == name)


def family_of(config: Mapping[str, object], where: str = "config") -> Family:
    """The architecture that a parsed config.json asks for by its `_class_name`."""
    class_name = config.get("_class_name")
    for candidate in families():
        if class_name in candidate.class_names:
            return candidate
    known = ", ".join(name for f in families() for name in f.class_names)
    raise BadWeights(f"{where}: _class_name is {class_name!r}, unknown here", f"known are: {known}")


def resolve(source: str | Path, config: Path | None = None) -> Resolved:
    """From a model's name, a folder (config.json and weights), or a weight file and its config.

    A file without a config is told by the names and shapes in it.
    """
    if isinstance(source, str) and source in names():
        return _named(find(source), config)
    path = Path(source).expanduser()
    if path.is_dir():
        return Resolved(spec_from(config or path / "config.json"), weights_in(path))
    if path.is_file():
        config = config or config_beside(path)
        return Resolved(spec_from(config) if config else _recognised(path), path)
    raise _unknown(str(source))


def resolve_weights(
    model: str | Path | None, weights: Path | str | None = None, config: Path | None = None
) -> Resolved:
    """`resolve`, where other weights may stand in for those of `model`.

    Without a model they are what they are. Weights without a config of their own must be those of the
    model that is named; in a folder of many they are found by its name.
    """
    if weights is None:
        return resolve(DEFAULT if model is None else model, config)
    path = Path(weights).expanduser()
    if model in names() and not (config or config_beside(path)):
        file = path if path.is_file() else file_named(str(model), path)
        if file:
            return Resolved(_demanded(find(str(model)), file), file)
    return resolve(path, config)


def foresee(model: str | Path | None, weights: Path | None = None, config: Path | None = None) -> ModelSpec:
    """The facts of a model as far as they are known before anything is fetched, hashed or loaded."""
    spec = find(model) if model in names() else None
    if spec is not None and spec.hub is not None and weights is None and config is None:
        return spec
    return resolve_weights(model, weights, config).spec


def recognised(path: Path) -> Recognised | None:
    """What a bare weight file is by the names and shapes in it; None where they are of no known layout."""
    return recognise(families(), shapes_in(path), path)


def _recognised(path: Path) -> ModelSpec:
    """The model of a bare weight file; raises UsageError where it cannot be told."""
    found = recognised(path)
    if found is None:
        raise UsageError(
            f"{path}: which network is it for?",
            f"add {parameter('config')} CONFIG.json, or put config.json beside it",
        )
    return found.one(path)


def _demanded(spec: ModelSpec, path: Path) -> ModelSpec:
    """`spec`, if the bare weight file can be for it; raises BadWeights that says what the file is instead."""
    found = recognised(path)
    if found is None:
        return spec
    fitting = {each.name: each for each in found.specs}
    if spec.name not in fitting:
        raise BadWeights(
            f"{path}: holds {' or '.join(fitting)}, not {spec.name}",
            f"name that with {parameter('model')}, or leave {parameter('model')} out",
        )
    return fitting[spec.name]


def spec_from(config: Path) -> ModelSpec:
    """The facts of the model that a config.json describes."""
    parsed = read_config(config)
    colours = parsed.pop("colours", None)  # what bin/fit-colours adds, for networks of any family
    family = family_of(parsed, str(config))
    with naming_config(config):
        spec = family.spec_of(parsed)
        return replace(spec, colours=Colours.of(colours)) if colours else spec


def read_config(path: Path) -> dict[str, object]:
    """A parsed config.json; raises BadWeights where it is missing or no JSON object."""
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise BadWeights(
            f"{path}: no such file", f"name the model's config with {parameter('config')}"
        ) from e
    except (OSError, ValueError, RecursionError) as e:
        raise BadWeights(f"{path}: not readable as JSON ({e})", "use the config the weights came with") from e
    if not isinstance(parsed, dict):
        raise BadWeights(f"{path}: holds a {type(parsed).__name__}, expected an object")
    check_config(parsed, path)
    return parsed


def config_beside(weights: Path) -> Path | None:
    """The config.json in the folder of a weight file, or in a folder itself, if there is one."""
    config = (weights if weights.is_dir() else weights.parent) / "config.json"
    return config if config.is_file() else None


def file_named(name: str, folder: Path) -> Path | None:
    """The weight file that has a model's name, in a folder of many or in its folder `safetensors`."""
    places = [
        place / f"{name}{suffix}" for place in (folder, folder / "safetensors") for suffix in WEIGHT_SUFFIXES
    ]
    return next((path for path in places if path.is_file()), None)


def local_file(name: str) -> Path | None:
    """The weight file that has a model's name, in the folders that VIDLATENT_WEIGHTS lists as PATH does."""
    folders = os.environ.get(WEIGHTS_VARIABLE, "").split(os.pathsep)
    found = (file_named(name, Path(folder).expanduser()) for folder in folders if folder)
    return next(filter(None, found), None)


def weights_in(folder: Path) -> Path:
    """The weight file of a folder; raises BadWeights where there is none, or no telling which."""
    found = sorted(p for p in folder.iterdir() if p.suffix in WEIGHT_SUFFIXES)
    usual = [p for p in found if p.name in USUAL_NAMES]
    if len(found) == 1 or len(usual) == 1:
        return (usual or found)[0]
    if not found:
        raise BadWeights(f"{folder}: no weights", "expected a .safetensors or .ckpt file beside config.json")
    raise BadWeights(
        f"{folder}: several weight files ({', '.join(p.name for p in found)})", "name the one to use"
    )


def demand_extra(name: str) -> None:
    """Raise UsageError, with what installs it, where a model of that name needs an extra that is not here."""
    for extra, brings in extras().items():
        if name in brings:
            raise UsageError(
                f"{name}: runs through {extra}, which is not installed", f"pip install 'vidlatent[{extra}]'"
            )


def _unknown(source: str) -> UsageError:
    demand_extra(source)
    near = get_close_matches(source, names(), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    return UsageError(f"{source}: no such model, folder or file", f"{hint}models: {', '.join(names())}")


def _named(spec: ModelSpec, config: Path | None) -> Resolved:
    if config is not None:
        raise UsageError(
            f"{spec.name}: a model with a name has its own config", f"leave {parameter('config')} out"
        )
    if spec.weightless:
        return Resolved(spec, None)
    if spec.name in BUNDLED:
        return resolve(asset(spec.name))
    if spec.hub is not None:
        return _fetched(spec, spec.hub)
    file = local_file(spec.name)
    if file is None:
        raise UsageError(
            f"{spec.name}: its weights cannot be fetched",
            f"give a folder or file of weights by {parameter('weights')}, "
            f"or put {spec.name}.safetensors into a folder that the variable {WEIGHTS_VARIABLE} names",
        )
    return Resolved(_demanded(spec, file), file)


def _fetched(spec: ModelSpec, where: Hub) -> Resolved:
    """A published model from the hub, or from its cache here; its own config says what it is."""
    files = hub.fetch(where)
    if files.config is not None:
        spec = replace(spec_from(files.config), **spec.label)
    return Resolved(spec, files.weights, files.sha256)
