"""Networks with random weights, as small as a test can bear: what counts is how they run."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from vidlatent.engine.model import Model
from vidlatent.engine.runtime import Runtime
from vidlatent.models import registry

CONFIGS = {
    "toy": {"_class_name": "ToyVAE"},
    "pocket": {"_class_name": "PocketVAE", "stem": 8, "width": 16, "encoder_blocks": 1, "decoder_blocks": 1},
    "wf": {
        "_class_name": "WFVAEModel",
        "base_channels": 8,
        "latent_dim": 4,
        "encoder_energy_flow_hidden_size": 8,
        "decoder_energy_flow_hidden_size": 8,
        "connect_res_layer_num": 1,
        "norm_type": "layernorm",
        "t_interpolation": "trilinear",
    },
    "hunyuan15": {
        "_class_name": "AutoencoderKLHunyuanVideo15",
        **{"block_out_channels": [8, 8, 16, 16, 16], "layers_per_block": 1, "latent_channels": 2},
    },
    "wan": {"_class_name": "AutoencoderKLWan", "base_dim": 4, "z_dim": 2},
    "od": {"_class_name": "CausalVAEModel", "hidden_size": 32, "num_res_blocks": 1},
}


def random_model(kind: str, **config: object) -> Model:
    """A model of this kind in this process; `config` replaces what is said above."""
    torch.manual_seed(0)
    parsed = {**CONFIGS[kind], **config}
    family = registry.family_of(parsed)
    network = family.build(family.spec_of(parsed)).eval().requires_grad_(False)
    return Model(network, Runtime.choose("cpu", "fp32"))


def publish_random(kind: str, folder: Path, **config: object) -> Path:
    """A folder with the config.json and the weights of such a model, for `--weights`."""
    model = random_model(kind, **config)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIGS[kind], **config}))
    save_file(model.network.state_dict(), folder / "model.safetensors")
    return folder
