"""From a name, a folder or a file to a model that runs."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch

from vidlatent.engine.model import Model
from vidlatent.engine.runtime import Runtime
from vidlatent.models import registry
from vidlatent.models.weights import load_network


def load_model(
    model: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    weights: Path | str | None = None,
    config: Path | str | None = None,
    settings: Mapping[str, object] | None = None,
) -> Model:
    """A model ready to encode and decode.

    `model` is a name (see `vidlatent models list`), a folder (config.json and weights) or a weight
    file; without it the bundled one, or what `weights` are. `weights` replaces the weights of a named
    model; `config` describes a bare weight file whose names do not. `settings` are of the model's own
    options, by their names (see `vidlatent models show NAME`). The device is the best there is
    unless named, the dtype bf16 on CUDA and fp32 elsewhere.
    """
    runtime = Runtime.choose(device, dtype)
    found = registry.resolve_weights(model, weights, Path(config) if config else None)
    spec = found.spec.chosen(settings or {})
    family = registry.family(spec.family)
    again = partial(load_model, absolute(model), weights=absolute(weights), config=absolute(config))
    if found.weights is None:
        return Model(family.build(spec), runtime, load=again)
    where = (runtime.device, runtime.dtype)
    network, sha256 = load_network(family, spec, found.weights, *where, found.sha256)
    return Model(network, runtime, sha256, again)


def absolute(place: str | Path | None) -> str | Path | None:
    """A path as any process finds it, from the root on; the name of a model stays a name."""
    if place is None or place in registry.names():
        return place
    path = Path(place).expanduser()
    return path.absolute() if path.exists() else place
