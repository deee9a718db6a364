"""From a name, a folder or a file to a model that runs."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch

from vidlatent.engine.model import Model
from vidlatent.engine.runtime import Runtime
from vidlatent.models import registry
from vidlatent.models.base import Verb
from vidlatent.models.weights import load_network


def load_model(  # noqa: PLR0913  which model, from where, to where, and how much of it
    model: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    weights: Path | str | None = None,
    config: Path | str | None = None,
    settings: Mapping[str, object] | None = None,
    only: Verb | None = None,
) -> Model:
    """A model ready to encode and decode.

    `model` is a name (see `vidlatent models list`), a folder (config.json and weights) or a weight
    file; without it the bundled one, or what `weights` are. `weights` replaces the weights of a named
    model; `config` describes a bare weight file whose names do not. `settings` are of the model's own
    options, by their names (see `vidlatent models show NAME`). The device is the best there is
    unless named, the dtype bf16 on CUDA and fp32 elsewhere. With `only` "encode" or "decode" it does
    nothing else, and the weights of its other half take no memory.
    """
    runtime = Runtime.choose(device, dtype)
    found = registry.resolve_weights(model, weights, Path(config) if config else None)
    spec = found.spec.chosen(settings or {})
    family = registry.family(spec.family)
    files = {"weights": absolute(weights), "config": absolute(config)}
    again = partial(load_model, absolute(model), **files, only=only)
    if found.weights is None:
        return Model(family.build(spec), runtime, load=again, only=only)
    where = (runtime.device, runtime.dtype)
    network, sha256 = load_network(family, spec, found.weights, *where, found.sha256, only)
    return Model(network, runtime, sha256, again, only, found.weights)


def absolute(place: str | Path | None) -> str | Path | None:
    """A path as any process finds it, from the root on; the name of a model stays a name."""
    if place is None or place in registry.names():
        return place
    path = Path(place).expanduser()
    return path.absolute() if path.exists() else place
