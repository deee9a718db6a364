"""The registry: names, folders and files lead to a model, or to an error that says where to go."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vidlatent.errors import BadWeights, UsageError
from vidlatent.models import registry
from vidlatent.models.base import MODULES_OF

CONFIG = {"_class_name": "CausalVAEModel", "hidden_size": 32, "hidden_size_mult": [1, 1, 1, 1]}


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return with_weights(tmp_path, "weights.safetensors")


def with_weights(folder: Path, *names: str) -> Path:
    for name in names:
        save_file({"x": torch.zeros(1)}, folder / name)
    return folder


def test_names_are_unique_and_lead_to_their_spec():
    names = registry.names()
    assert len(names) == len(set(names))
    assert all(registry.find(name).name == name for name in names)
    assert {"pocket", "od-vae-1.0", "od-vae-1.1", "od-vae-1.2"} <= set(names)
    assert registry.DEFAULT in names


def test_every_spec_names_the_family_that_builds_it():
    for family in registry.families():
        assert registry.family(family.name) is family
        assert all(spec.family == family.name for spec in family.specs)


def test_no_two_families_answer_to_one_class_name():
    names = [name for family in registry.families() for name in family.class_names]
    assert len(names) == len(set(names))


def test_every_named_model_can_be_built():
    """And what is no network of another library is known to be of one verb or of the other."""
    halves = {name for modules in MODULES_OF.values() for name in modules}
    for spec in registry.specs():
        with torch.device("meta"):
            network = registry.family(spec.family).build(spec)
        assert network.spec == spec
        assert {name for name, _ in network.named_children()} <= halves | {"vae"}


@pytest.mark.parametrize("meant", ["od-vae1.2", "OD-VAE-1.2", "odvae-1.2"])
def test_an_unknown_name_says_which_was_probably_meant(meant):
    with pytest.raises(UsageError, match=rf"{meant}: no such model.*\nhint: did you mean od-vae-1\.2\?"):
        registry.resolve(meant)


def test_a_name_like_no_other_lists_all():
    with pytest.raises(UsageError, match=r"hint: models: .*pocket.*od-vae-1\.0"):
        registry.resolve("qqqqqqqq")


def test_a_folder_leads_to_its_config_and_weights(folder):
    found = registry.resolve(folder)
    assert found.spec.family == "od_vae"
    assert found.weights == folder / "weights.safetensors"
    assert registry.resolve(str(folder)).weights == found.weights


def test_a_bare_file_takes_the_config_beside_it_or_the_one_that_is_named(folder, tmp_path_factory):
    assert registry.resolve(folder / "weights.safetensors").spec.config == CONFIG
    alone = with_weights(tmp_path_factory.mktemp("alone"), "some.ckpt") / "some.ckpt"
    assert registry.resolve(alone, folder / "config.json").spec.config == CONFIG
    with pytest.raises(UsageError, match=r"some\.ckpt: which network is it for\?\nhint: add config"):
        registry.resolve(alone)


def test_the_usual_name_wins_among_several_weight_files(folder):
    with_weights(folder, "io.safetensors")
    assert registry.resolve(folder).weights.name == "weights.safetensors"


def test_a_folder_with_several_weight_files_is_ambiguous(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with_weights(tmp_path, "a.safetensors", "b.ckpt")
    with pytest.raises(BadWeights, match=r"several weight files \(a\.safetensors, b\.ckpt\)"):
        registry.resolve(tmp_path)


def test_a_folder_without_weights_or_config_is_refused(tmp_path):
    with pytest.raises(BadWeights, match=r"config\.json: no such file\nhint: .*config"):
        registry.resolve(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(BadWeights, match="no weights"):
        registry.resolve(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable as JSON"),
        ("[]", "holds a list, expected an object"),
        ("{}", "_class_name is None, unknown here\nhint: known are: .*CausalVAEModel"),
        ('{"_class_name": "AutoencoderTiny"}', "_class_name is 'AutoencoderTiny', unknown here"),
    ],
)
def test_configs_of_nothing_known_are_refused(folder, text, message):
    (folder / "config.json").write_text(text)
    with pytest.raises(BadWeights, match=message):
        registry.resolve(folder)


def test_a_named_model_needs_no_config(folder):
    with pytest.raises(UsageError, match="has its own config"):
        registry.resolve("od-vae-1.2", folder / "config.json")


def test_other_weights_may_stand_in_for_those_of_a_named_model(tmp_path, folder):
    alone = tmp_path / "alone"
    alone.mkdir()
    with_weights(alone, "mine.safetensors")
    found = registry.resolve_weights("od-vae-1.1", alone / "mine.safetensors", None)
    assert (found.spec.name, found.weights.name) == ("od-vae-1.1", "mine.safetensors")
    assert registry.resolve_weights("od-vae-1.1", folder, None).spec.config == CONFIG
