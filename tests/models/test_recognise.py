"""A bare weight file is told by its names and shapes: whose it is, in which layout, for which models."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vidlatent.errors import BadWeights, UsageError
from vidlatent.grid import Grid
from vidlatent.jobs import models as job
from vidlatent.models import registry
from vidlatent.models.base import Family, Layout, ModelSpec
from vidlatent.models.weights import load_network
from vidlatent.windows import Plan, TimeRule


class Net(nn.Module):
    """A network of one layer, and what a checkpoint may leave out or hold in another kind."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.conv = nn.Linear(3, spec.config["width"])
        self.register_buffer("steps", torch.zeros(1, dtype=torch.int64))


def spec(name: str, width: int, scale: float) -> ModelSpec:
    plan = Plan(TimeRule(4), TimeRule(1))
    return ModelSpec(name, "net", Grid(4, 8), 4, plan, scale=(scale,), config={"width": width})


THEIRS = {"net.weight": "conv.weight", "net.bias": "conv.bias", "net.steps": "steps", "loss.weight": None}
FAMILY = Family(
    name="net",
    class_names=("Net",),
    specs=(spec("net-a", 5, 1.0), spec("net-b", 5, 2.0), spec("net-c", 6, 1.0)),
    spec_of=lambda config: replace(spec("net", 0, 1.0), config=config),
    build=Net,
    rename=lambda key: key,
    layouts=(
        Layout("ours", ("conv.weight",), lambda key: key, lambda s: {"width": s["conv.weight"][0]}),
        Layout(
            "theirs",
            ("net.weight",),
            lambda key: THEIRS.get(key, key),
            lambda s: {"width": s["net.weight"][0]},
        ),
    ),
)


@pytest.fixture(autouse=True)
def one_family(monkeypatch):
    monkeypatch.setattr(registry, "families", lambda: (FAMILY,))


def saved(path: Path, width: int, names: dict[str, str] | None = None, **more: torch.Tensor) -> Path:
    """A file of the network's tensors under other names."""
    tensors = {"weight": torch.ones(width, 3), "bias": torch.ones(width), "steps": torch.tensor([7])}
    names = names or {"weight": "conv.weight", "bias": "conv.bias", "steps": "steps"}
    save_file({names[key]: value for key, value in tensors.items()} | more, path)
    return path


def behind(prefix: str) -> dict[str, str]:
    return {key: f"{prefix}net.{key}" for key in ("weight", "bias", "steps")}


@pytest.mark.parametrize("prefix", ["", "vae.", "model.", "first_stage_model."])
def test_a_file_is_known_by_its_names_whatever_stands_before_them(tmp_path, prefix):
    path = saved(tmp_path / "a.safetensors", 6, behind(prefix))
    assert registry.resolve(path).spec.name == "net-c"
    network, _ = load_network(FAMILY, registry.resolve(path).spec, path)
    assert network.conv.weight.shape == (6, 3)


def test_tensors_of_other_networks_in_the_same_file_are_left_alone(tmp_path):
    other = {"unet.conv.weight": torch.zeros(2)}
    path = saved(tmp_path / "a.safetensors", 6, behind("vae."), **other)
    assert load_network(FAMILY, registry.resolve(path).spec, path)[0].steps.item() == 7


def test_integers_stay_integers(tmp_path):
    path = saved(tmp_path / "a.safetensors", 6)
    network, _ = load_network(FAMILY, registry.resolve(path).spec, path, dtype=torch.bfloat16)
    assert network.steps.dtype == torch.int64 and network.conv.weight.dtype == torch.bfloat16


def test_models_that_no_shape_tells_apart_must_be_named(tmp_path):
    path = saved(tmp_path / "a.safetensors", 5)
    with pytest.raises(
        UsageError, match=r"fits net-a and net-b, whose latents are scaled differently\nhint: .*model"
    ):
        registry.resolve(path)
    assert registry.resolve_weights("net-b", path).spec.name == "net-b"


def test_a_file_under_another_models_name_says_what_it_is(tmp_path):
    path = saved(tmp_path / "a.safetensors", 6)
    with pytest.raises(BadWeights, match="holds net-c, not net-a"):
        registry.resolve_weights("net-a", path)


def test_a_network_of_a_size_that_has_no_name_is_described_by_its_shapes(tmp_path):
    found = registry.resolve(saved(tmp_path / "a.safetensors", 9)).spec
    assert (found.name, found.config["width"]) == ("net", 9)


def test_a_missing_key_is_quoted(tmp_path):
    names = {"weight": "conv.weight", "bias": "conv.bia", "steps": "steps"}
    path = saved(tmp_path / "a.safetensors", 6, names)
    with pytest.raises(
        BadWeights, match=r"missing 1 key \(conv.bias\); not of this network 1 key \(conv.bia\)"
    ):
        load_network(FAMILY, FAMILY.specs[2], path)


def test_check_says_what_a_file_is(tmp_path):
    facts = job.check(saved(tmp_path / "a.safetensors", 5, behind("vae.")))
    assert (facts["model"], facts["layout"], facts["parameters"]) == ("net-a or net-b", "vae.theirs", 20)


def test_what_no_file_holds_must_not_stay_without_a_value(tmp_path):
    class Forgetful(Net):
        def __init__(self, spec: ModelSpec) -> None:
            super().__init__(spec)
            self.register_buffer("kernel", torch.ones(1), persistent=False)

    path = saved(tmp_path / "a.safetensors", 6)
    with pytest.raises(BadWeights, match=r"nothing gives 1 key \(kernel\) a value"):
        load_network(replace(FAMILY, build=Forgetful), FAMILY.specs[2], path)
