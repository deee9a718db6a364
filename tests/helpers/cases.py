"""Golden cases as tests use them: weights written out in their published names, and loaded like anyone's."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import vidlatent
from helpers import weights_formula as formula
from helpers.paths import GOLDEN
from vidlatent.engine.model import Model
from vidlatent.models.causal import TimeState, whole
from vidlatent.precision import true_float32

# The authors' own code, run in float64, deviates from its float32 by up to 1.1e-5. The least of the
# mistakes tried on these cases gives 3e-4.
DEVICE = "cpu"  # where they are computed: see `--device` in conftest.py
MAX_ABS = 1e-4
REL_RMS = 1e-5


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small lose more by waiting for a second thread than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Case:
    """A network of the authors' and what it gave; `folder` holds it as a user would have it."""

    facts: dict
    config: dict
    wanted: dict[str, torch.Tensor]
    folder: Path
    model: Model

    def video(self, run: dict) -> torch.Tensor:
        """The input of a run."""
        whole = formula.video(self.facts["case"], run["input"], run["input_shape"])
        return torch.from_numpy(whole)[:, :, : run["frames"]]

    def told(self, run: dict) -> Model:
        """The model, told what the run's decoder was told: a timestep, and whether to add noise."""
        names = {option.name for option in self.model.spec.options}
        settings = {"timestep": run.get("timestep"), "inject_noise": run.get("noise")}
        return self.model.choose(**{name: settings[name] for name in names & settings.keys()})

    def plane(self, key: str, height: int, width: int) -> torch.Tensor:
        """The noise [height, width] that runs with noise add where the parameter `key` scales it."""
        unit = formula.uniform(self.facts["case"], f"noise/{key}", (height, width))
        return torch.from_numpy(unit * np.float32(3**0.5))

    def mean(self, run: dict) -> torch.Tensor:
        """What a run decodes: the authors' own mean."""
        return self.wanted[run["moments"]][:, : self.facts["latent_channels"]]


def compact(name: str, folder: Path) -> Case:
    """The compact case of that name, written to `folder` and loaded from there."""
    source = GOLDEN / name
    facts = json.loads((source / "case.json").read_text())
    fixed = {key: fact["values"] for key, fact in facts.get("constants", {}).items()}
    state = {
        key: torch.tensor(fixed[key]).reshape(shape)
        if key in fixed
        else torch.from_numpy(formula.weight(name, key, shape))
        for key, shape in facts["state_dict"].items()
    }
    return _case(source, facts, state, folder)


def full(source: Path, folder: Path) -> Case:
    """A larger case, from the folder that holds it."""
    facts = json.loads((source / "case.json").read_text())
    return _case(source, facts, load_file(source / "weights.safetensors"), folder)


def _case(source: Path, facts: dict, state: dict[str, torch.Tensor], folder: Path) -> Case:
    config = json.loads((source / "config.json").read_text())
    publish(config, state, folder)
    wanted = load_file(source / "io.safetensors")
    model = vidlatent.load_model(folder, device=DEVICE, dtype=torch.float32)
    return Case(facts, config, wanted, folder, model)


def publish(config: dict, state: dict[str, torch.Tensor], folder: Path) -> Path:
    """A folder as models are published in: config.json and weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / "diffusion_pytorch_model.safetensors")
    return folder


def bare_encode(model: Model, video: torch.Tensor) -> torch.Tensor:
    """Moments in one call of the bare network, which pads nothing."""
    with true_float32(), torch.inference_mode():
        return whole(model.network.encode(video.to(DEVICE), TimeState()))


def bare_decode(model: Model, latents: torch.Tensor) -> torch.Tensor:
    """Pixels in one call of the bare network."""
    with true_float32(), torch.inference_mode():
        return whole(model.network.decode(latents.to(DEVICE), TimeState()))


def assert_close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    """Equal within the tolerance of all goldens."""
    error = got.cpu().double() - wanted.double()
    assert got.shape == wanted.shape
    assert error.abs().max() <= MAX_ABS
    assert error.norm() / wanted.double().norm() <= REL_RMS
