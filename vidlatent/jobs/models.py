"""Models: which there are, where their weights lie, and whether a file fits one."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from vidlatent.engine.load import load_model
from vidlatent.engine.model import Model
from vidlatent.engine.plan import PlanWishes, plan_for
from vidlatent.errors import BadWeights, UsageError
from vidlatent.models import hub, registry
from vidlatent.models.base import ModelSpec, Verb
from vidlatent.models.hashes import forget_sha256
from vidlatent.models.weights import load_network
from vidlatent.windows import TimeRule


def use_threads(count: int | None) -> None:
    """Let models on the CPU use so many threads; None: as many as there are cores."""
    if count is not None:
        torch.set_num_threads(count)


@dataclass(frozen=True)
class ModelChoice:
    """Which model to load, and where it runs; see `load_model`. None leaves the choice to the job."""

    model: str | None = None
    device: str | None = None
    dtype: str | None = None
    weights: Path | None = None
    config: Path | None = None
    settings: Mapping[str, object] = field(default_factory=dict)

    def foresee(self, model: str | None = None) -> ModelSpec:
        """Give the facts of the model that `load` would load, at no cost: nothing is fetched or loaded.

        Raises UsageError where there is no such model, or no such setting of it.
        """
        spec = registry.foresee(self.model or model, self.weights, self.config)
        return spec.chosen(self.settings)

    def check(self, wishes: PlanWishes, model: str | None = None) -> None:
        """Raise UsageError where the model cannot cut clips as is wished; nothing is fetched or loaded."""
        if wishes != PlanWishes() or self.settings:
            plan_for(self.foresee(model), wishes)

    def load(self, model: str | None = None, device: str | None = None, only: Verb | None = None) -> Model:
        """Load the chosen model; `model` and `device` count where none was chosen. For `only`, see there."""
        where = (self.device or device, self.dtype)
        return load_model(self.model or model, *where, self.weights, self.config, self.settings, only)


@dataclass(frozen=True)
class ModelRow:
    """One model as a list shows it.

    `weights` is "bundled", "here", "to pull" or "give a file", or "damaged pin" where nobody knows what was
    downloaded. `trust` is what vidlatent knows of published weights before they come: "sha256", "commit", or
    "first download" where it is that which decides.
    """

    name: str
    compression: str
    channels: int
    time_rule: str
    licence: str
    weights: str
    trust: str
    summary: str


def list_models() -> Iterator[ModelRow]:
    """Every model that has a name, a row each."""
    for spec in registry.specs():
        yield ModelRow(
            name=spec.name,
            compression=f"{spec.grid.time}x{spec.grid.space}x{spec.grid.space}",
            channels=spec.channels,
            time_rule=describe_time_rule(spec),
            licence=spec.licence,
            weights=locate_weights(spec),
            trust=sum_up_trust(spec),
            summary=spec.summary,
        )


def list_missing_extras() -> Iterator[str]:
    """A line for each extra that is not installed: which models it would bring, and what installs it."""
    for extra, names in registry.extras().items():
        yield f"{', '.join(names)} run through {extra}: pip install 'vidlatent[{extra}]'"


def describe_time_rule(spec: ModelSpec) -> str:
    """How the model may be cut in time, in a few words."""
    if spec.exact:
        return "exact"
    encode, decode = spec.plan.encode_time, spec.plan.decode_time
    if encode.batches and decode.batches:
        return f"batches {encode.stride} / {decode.stride}"
    if not encode.carries and not decode.carries:
        return f"windows {encode.longest or 'whole'} / {decode.longest or 'whole'}"
    return f"{_describe_rule(encode)} / {_describe_rule(decode)}"


def _describe_rule(rule: TimeRule) -> str:
    """One direction's rule, in a few words."""
    if rule.exact:
        return "exact"
    return f"batches {rule.stride}" if rule.batches else f"windows {rule.longest or 'whole'}"


def locate_weights(spec: ModelSpec) -> str:
    """Where the weights of a model are: see `ModelRow`."""
    if spec.name in registry.BUNDLED:
        return "bundled"
    if spec.weightless:
        return "none needed"
    if spec.hub is None:
        return "here" if registry.local_file(spec.name) else "give a file"
    try:
        return "here" if hub.here(spec.hub) else "to pull"
    except BadWeights:  # of this model alone: the others are listed, and `pull` says what is wrong
        return "damaged pin"


def sum_up_trust(spec: ModelSpec) -> str:
    """What is known of a model's published weights before they come: see `ModelRow`."""
    if spec.hub is None or spec.name in registry.BUNDLED:
        return ""
    if spec.hub.sha256:
        return "sha256"
    return "first download" if spec.hub.revision == "main" else "commit"


def describe_model(name: str) -> dict[str, Any]:
    """Every fact of one model; its parameters are counted on its network."""
    spec = registry.resolve(name).spec if name in registry.BUNDLED else registry.find(name)
    with torch.device("meta"):
        network = registry.family(spec.family).build(spec)
    facts = asdict(spec)
    for rule in ("tiles", "windows", "prepare"):
        facts.pop(rule)
    return {
        **facts,
        "time_rule": describe_time_rule(spec),
        "parameters": sum(p.numel() for p in network.parameters()),
        "weights": locate_weights(spec),
    }


def check(path: Path, config: Path | None = None) -> dict[str, Any]:
    """Load weights as encoding would, strictly, and say what they are; BadWeights where they do not fit.

    A bare file is told by the names and shapes in it; where several models fit, all are named. The file is
    hashed anew, whatever is noted of it.
    """
    path = path.expanduser()
    bare = path.is_file() and not config and not registry.config_beside(path)
    told = registry.recognised(path) if bare else None
    if told is None:
        found = registry.resolve(path, config)
        specs, weights, layout = (found.spec,), found.weights, None
    else:
        specs, weights, layout = told.specs, path, told.prefix + told.layout.name
    forget_sha256(weights)
    network, sha256 = load_network(registry.family(specs[0].family), specs[0], weights)
    return {
        "file": str(weights),
        "model": " or ".join(spec.name for spec in specs),
        "family": specs[0].family,
        **({"layout": layout} if layout else {}),
        "channels": specs[0].channels,
        "parameters": sum(p.numel() for p in network.parameters()),
        "sha256": sha256,
    }


@dataclass(frozen=True)
class Download:
    """What `pull` would fetch: from where, how many bytes, under which licence, and why it is believed."""

    where: str
    bytes: int | None
    licence: str
    trust: str


def look_up_download(name: str) -> Download:
    """Ask what `pull` would fetch; raises UsageError where there is nothing to fetch."""
    spec = registry.find(name)
    if spec.hub is None:
        raise UsageError(
            f"{name}: nothing to fetch ({locate_weights(spec)})",
            "vidlatent models list shows what can be pulled",
        )
    size = hub.look(spec.hub).bytes
    return Download(f"{spec.hub.repo}/{spec.hub.file}", size, spec.licence, hub.describe_trust(spec.hub))


def pull(name: str) -> Path:
    """Fetch the weights of a model into the local cache, unless they are there; returns the file."""
    return registry.resolve(name).weights
