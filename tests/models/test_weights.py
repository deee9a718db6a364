"""Weights: every layout loads, every fault is named, and nothing in a checkpoint is ever run."""

import hashlib
import json
import pickle
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vidlatent.errors import BadWeights
from vidlatent.grid import Grid
from vidlatent.models.base import Family, ModelSpec
from vidlatent.models.weights import load_network
from vidlatent.windows import Plan, TimeRule

SPEC = ModelSpec("small", "small", Grid(1, 1), 2, Plan(TimeRule(1), TimeRule(1)))


class Small(nn.Module):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 4, 3)
        self.norm = nn.GroupNorm(2, 4)


FAMILY = Family(
    name="small",
    class_names=("Small",),
    specs=(SPEC,),
    spec_of=lambda config: SPEC,
    build=Small,
    rename=lambda key: None if key.startswith("loss.") else key,
)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return Small(SPEC).state_dict()


def load(path, **options) -> nn.Module:
    return load_network(FAMILY, SPEC, path, **options)[0]


def assert_holds(network: nn.Module, state: dict[str, torch.Tensor]) -> None:
    loaded = network.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_safetensors_load_and_their_hash_is_given(tmp_path, state):
    path = tmp_path / "w.safetensors"
    save_file(state, path)
    network, sha256 = load_network(FAMILY, SPEC, path)
    assert_holds(network, state)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


def test_safetensors_under_the_name_of_a_checkpoint_are_recognised(tmp_path, state):
    save_file(state, tmp_path / "w.ckpt")
    assert_holds(load(tmp_path / "w.ckpt"), state)


def other(state):
    return {key: value + 1 for key, value in state.items()}


@pytest.mark.parametrize(
    "layout",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"state_dict": {"gen_model": state, "dics_model": other(state)}},
        lambda state: {
            "ema_state_dict": {f"module.{key}": value for key, value in state.items()},
            "state_dict": {"gen_model": other(state)},
            "optimizer_state": [{"lr": 1e-5}],
        },
        lambda state: {"ema_state_dict": {}, "state_dict": {"gen_model": state}},
    ],
    ids=["flat", "state_dict", "gen_model", "ema", "empty ema"],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "pickle"])
def test_checkpoints_load_in_every_layout(tmp_path, state, layout, zipped):
    path = tmp_path / "checkpoint.ckpt"
    torch.save(layout(state), path, _use_new_zipfile_serialization=zipped)
    assert_holds(load(path), state)


def test_leftovers_of_training_are_dropped_unread(tmp_path, state):
    broken = {"loss.logvar": torch.tensor([float("nan")])}
    save_file(state | broken, tmp_path / "w.safetensors")
    assert_holds(load(tmp_path / "w.safetensors"), state)


def test_weights_are_cast_and_laid_out_for_convolution(tmp_path, state):
    save_file(state, tmp_path / "w.safetensors")
    weight = load(tmp_path / "w.safetensors", dtype=torch.bfloat16).conv.weight
    assert weight.dtype == torch.bfloat16
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)


def test_loaded_weights_do_not_depend_on_the_file_any_more(tmp_path, state):
    path = tmp_path / "w.safetensors"
    save_file(state, path)
    network = load(path)
    with path.open("r+b") as file:  # in place, as mapped memory would notice
        file.seek(-64, 2)
        file.write(bytes(64))
    assert_holds(network, state)


def saved(path, state, **changes):
    save_file({key: value for key, value in (state | changes).items() if value is not None}, path)
    return path


def test_axes_of_length_one_that_files_add_are_dropped(state, tmp_path):
    """The gain of an RMS norm is [C, 1, 1, 1] in the files of Wan and HunyuanVideo 1.5."""
    path = tmp_path / "weights.safetensors"
    save_file({**state, "norm.weight": state["norm.weight"].view(4, 1, 1, 1) + 1}, path)
    network, _ = load_network(FAMILY, SPEC, path)
    assert torch.equal(network.norm.weight, state["norm.weight"] + 1)


def test_missing_and_unknown_keys_are_quoted(tmp_path, state):
    extra = {f"down.{i}.weight": torch.zeros(1) for i in range(5)}
    path = saved(tmp_path / "w.safetensors", state, **{"norm.bias": None}, **extra)
    with pytest.raises(
        BadWeights,
        match=r"w\.safetensors: missing 1 key \(norm\.bias\); not of this network 5 keys "
        r"\(down\.0\.weight, down\.1\.weight, down\.2\.weight …\)\nhint: .*config\.json",
    ):
        load(path)


def test_a_wrong_shape_is_quoted_with_the_one_expected(tmp_path, state):
    path = saved(tmp_path / "w.safetensors", state, **{"norm.weight": torch.ones(6)})
    with pytest.raises(BadWeights, match=r"norm\.weight: shape \[6\], expected \[4\]"):
        load(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, state, value):
    path = saved(tmp_path / "w.safetensors", state, **{"norm.bias": torch.full((4,), value)})
    with pytest.raises(BadWeights, match=r"norm\.bias: NaN or infinity"):
        load(path)


def test_weights_too_large_for_the_dtype_are_refused(tmp_path, state):
    path = saved(tmp_path / "w.safetensors", state, **{"norm.bias": torch.full((4,), 1e6)})
    with pytest.raises(BadWeights, match=r"norm\.bias: too large for torch\.float16"):
        load(path, dtype=torch.float16)


def test_a_file_that_is_not_the_expected_one_is_refused(tmp_path, state):
    path = saved(tmp_path / "w.safetensors", state)
    with pytest.raises(BadWeights, match=r"sha256 [0-9a-f]{64}, expected 0000"):
        load(path, sha256="0000")


@pytest.mark.parametrize("kept", [0, 5, 100, -100])
def test_torn_safetensors_are_named(tmp_path, state, kept):
    path = saved(tmp_path / "w.safetensors", state)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BadWeights, match=r"w\.safetensors: torn or not safetensors"):
        load(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "pickle"])
@pytest.mark.parametrize("kept", [0, 100, -100])
def test_torn_checkpoints_are_named(tmp_path, state, kept, zipped):
    path = tmp_path / "w.ckpt"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BadWeights, match=r"w\.ckpt: "):
        load(path)


class Trap:
    """Unpickling this writes a file."""

    def __init__(self, target) -> None:
        self.target = str(target)

    def __reduce__(self):
        return open, (self.target, "w")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "pickle"])
def test_a_checkpoint_that_wants_to_run_something_is_refused_and_does_not(tmp_path, state, zipped):
    path, sprung = tmp_path / "w.ckpt", tmp_path / "sprung"
    torch.save({"state_dict": state, "hook": Trap(sprung)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        BadWeights,
        match=r"holds more than tensors, and is not opened \([Uu]nsupported [^ ]+ (GLOBAL )?io\.open\)",
    ) as e:
        load(path)
    assert not sprung.exists() and "weights_only" not in str(e.value), "nobody is told how to run it"


def test_a_bare_pickle_is_refused_and_not_run(tmp_path):
    path, sprung = tmp_path / "w.pt", tmp_path / "sprung"
    path.write_bytes(pickle.dumps(Trap(sprung), protocol=2))
    with pytest.raises(BadWeights, match=r"w\.pt: "):
        load(path)
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ([1, 2], "its file is a list, expected tensors by name"),
        ({"state_dict": {"conv.weight": 3}}, r"1 key \(conv\.weight\) should be tensors"),
        ({"ema_state_dict": 7}, "its ema_state_dict is a int"),
        ({"state_dict": [1]}, "its state_dict is a list"),
        ({1: torch.zeros(1)}, "its file is a dict, expected tensors by name"),
    ],
)
def test_checkpoints_of_anything_else_are_refused(tmp_path, held, message):
    torch.save(held, tmp_path / "w.ckpt")
    with pytest.raises(BadWeights, match=message):
        load(tmp_path / "w.ckpt")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadWeights, match=r"none\.safetensors: no such file"):
        load(tmp_path / "none.safetensors")


def full_model(path, state, other: int):
    """A file with the network under `vae.` and another network of `other` bytes, which are never written."""
    tensors, start = {}, 0
    for key, value in [*((f"vae.{key}", value) for key, value in state.items()), ("unet.weight", None)]:
        shape = [other] if value is None else list(value.shape)
        size = other if value is None else value.nbytes
        dtype = "U8" if value is None else "F32"
        tensors[key] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + size]}
        start += size
    header = json.dumps(tensors).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for value in state.values():
            file.write(value.contiguous().numpy().tobytes())
        file.truncate(8 + len(header) + start)
    return path


def test_of_a_full_model_only_the_part_that_is_wanted_counts(tmp_path, state):
    """Its hash too is that of the part: the same beside whatever else, and another for other values."""
    first, second = (full_model(tmp_path / f"{n}.safetensors", state, n) for n in (100, 5000))
    network, sha256 = load_network(FAMILY, SPEC, first)
    assert_holds(network, state)
    assert load_network(FAMILY, SPEC, second)[1] == sha256
    changed = full_model(tmp_path / "changed.safetensors", other(state), 100)
    assert load_network(FAMILY, SPEC, changed)[1] != sha256
    with pytest.raises(BadWeights, match="expected 0000"):
        load_network(FAMILY, SPEC, first, sha256="0" * 64)


class Halves(nn.Module):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder, self.decoder = nn.Linear(2, 3), nn.Linear(3, 2)
        self.quant_conv, self.shared = nn.Linear(3, 3), nn.Linear(1, 1)


@pytest.mark.parametrize("whole_file", [True, False])
@pytest.mark.parametrize(
    ("only", "kept"),
    [("encode", {"encoder", "quant_conv", "shared"}), ("decode", {"decoder", "shared"})],
)
def test_of_a_network_that_is_wanted_for_one_verb_the_other_half_is_left_out(
    tmp_path, only, kept, whole_file
):
    family, state, path = replace(FAMILY, build=Halves), Halves(SPEC).state_dict(), tmp_path / "a.safetensors"
    if whole_file:
        save_file(state, path)
    else:
        full_model(path, state, 100)
    network, sha256 = load_network(family, SPEC, path, only=only)
    assert {name for name, _ in network.named_children()} == kept
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name])
    assert sha256 == load_network(family, SPEC, path)[1]


def test_a_file_must_hold_the_other_half_all_the_same(tmp_path):
    state = Halves(SPEC).state_dict()
    del state["encoder.weight"]
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(BadWeights, match=r"missing 1 key \(encoder\.weight\)"):
        load_network(replace(FAMILY, build=Halves), SPEC, tmp_path / "a.safetensors", only="decode")


def test_the_hash_of_a_part_can_be_recomputed(tmp_path, state):
    facts = {
        key: ["float32", list(value.shape), hashlib.sha256(value.numpy().tobytes()).hexdigest()]
        for key, value in state.items()
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    found = load_network(FAMILY, SPEC, full_model(tmp_path / "a.safetensors", state, 10))[1]
    assert found == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the kernel's account of a child")
def test_a_full_model_of_many_gigabytes_opens_in_the_memory_of_its_part(tmp_path):
    """7 GB, all but 33 MB of them another network's, are neither read nor mapped in."""
    large = full_model(tmp_path / "a.safetensors", {"weight": torch.ones(80, 80, 11, 11, 11)}, 7 << 30)
    run = subprocess.run([sys.executable, "-c", OPEN, large], stdout=subprocess.PIPE, check=True)
    assert int(run.stdout) < 300e6


OPEN = """
import sys
from pathlib import Path
from torch import nn
from vidlatent.engine.runtime import peak_host_bytes
from vidlatent.grid import Grid
from vidlatent.models.base import Family, ModelSpec
from vidlatent.models.weights import load_network
from vidlatent.windows import Plan, TimeRule
spec = ModelSpec("conv", "conv", Grid(1, 1), 2, Plan(TimeRule(1), TimeRule(1)))
build = lambda spec: nn.Conv3d(80, 80, 11, bias=False)
family = Family("conv", (), (), lambda config: spec, build, lambda key: key)
before = peak_host_bytes()
network, _ = load_network(family, spec, Path(sys.argv[1]))
print(peak_host_bytes() - before - network.weight.nbytes)
"""


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_is_not_finite_is_found_wherever_it_is(tmp_path, state, value, dtype):
    state["conv.weight"][2, 1, 0, 2, 1] = value
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(BadWeights, match=r"conv\.weight: NaN or infinity"):
        load(tmp_path / "w.safetensors", dtype=dtype)


def test_tensors_that_share_memory_in_a_checkpoint_get_their_own(tmp_path, state):
    """One number for many, and a part of many, as in what training left behind."""
    state["norm.weight"] = torch.ones(1).expand(4)
    state["norm.bias"] = torch.full((1000,), float("nan")).index_fill_(0, torch.arange(0, 8, 2), 3)[:8:2]
    torch.save(state, tmp_path / "w.pt")
    network = load(tmp_path / "w.pt")
    assert_holds(network, state)
    assert {p.untyped_storage().nbytes() - p.nbytes for p in network.parameters()} == {0}


def test_buffers_are_not_cast(tmp_path):
    class Counting(nn.Module):
        def __init__(self, spec: ModelSpec) -> None:
            super().__init__()
            self.conv = nn.Conv3d(2, 4, 3)
            self.register_buffer("mean", torch.zeros(2))

    network, path = Counting(SPEC), tmp_path / "w.safetensors"
    network.mean += 1 / 3
    save_file(network.state_dict(), path)
    network, _ = load_network(replace(FAMILY, build=Counting), SPEC, path, dtype=torch.bfloat16)
    assert network.conv.weight.dtype == torch.bfloat16
    assert torch.equal(network.mean, torch.zeros(2) + 1 / 3)


def test_facts_that_weights_hold_become_the_models(tmp_path, state):
    save_file(state, tmp_path / "w.safetensors")
    family = replace(
        FAMILY, learn=lambda network, path: replace(SPEC, shift=(network.norm.weight[0].item(),))
    )
    assert load_network(family, SPEC, tmp_path / "w.safetensors")[0].spec.shift == (1.0,)


def test_weights_in_eight_bits_are_refused(tmp_path, state):
    state["conv.weight"] = state["conv.weight"].to(torch.float8_e4m3fn)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(
        BadWeights, match=r"conv.weight is F8_E4M3(.|\n)*use a file with this network in bf16"
    ):
        load(tmp_path / "w.safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("length", [0, 10, 99_000_000, 1 << 40, (1 << 64) - 1])
def test_a_sparse_file_of_ten_gigabytes_is_refused_before_any_of_it_is_held(tmp_path, length, suffix):
    path = tmp_path / f"model{suffix}"
    with path.open("wb") as file:
        file.write(length.to_bytes(8, "little"))
        file.truncate(10 << 30)
    tracemalloc.start()
    with pytest.raises(BadWeights, match=f"model{suffix}: torn"):
        load_network(FAMILY, SPEC, path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_safetensors_file_that_ends_early_is_torn(tmp_path, state):
    save_file(state, path := tmp_path / "w.safetensors")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BadWeights, match="torn or not safetensors"):
        load(path)
