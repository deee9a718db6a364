"""From a name, a folder or a file to a model that runs."""

from collections.abc import Mapping
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
    if found.weights is None:
        return Model(family.build(spec), runtime)
    where = (runtime.device, runtime.dtype)
    network, sha256 = load_network(family, spec, found.weights, *where, found.sha256)
    return Model(network, runtime, sha256)
