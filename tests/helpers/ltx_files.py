"""LTX-Video VAEs of small width, of full depth or shallow, and files of them."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from vidlatent.models import registry
from vidlatent.models.ltx_vae import FAMILY

NARROWER = {"ltx-video-0.9.0": 16}  # others by 32
_WIDTHS = ("latent_channels", "block_out_channels", "decoder_block_out_channels")
_FIRST = {"block_out_channels": [128, 256, 512, 512], "decoder_block_out_channels": [128, 256, 512, 512]}


def narrowed(name: str) -> dict:
    """The config of a published model, all its widths divided."""
    config, by = dict(registry.find(name).config), NARROWER.get(name, 32)
    for key in _WIDTHS:
        width = config.get(key, _FIRST.get(key, 128))
        config[key] = width // by if isinstance(width, int) else [each // by for each in width]
    return config


def shallow(name: str) -> dict:
    """The same with one residual block in the place of several."""
    config = narrowed(name)
    for key in ("layers_per_block", "decoder_layers_per_block"):
        config[key] = [1] * len(config.get(key, range(5)))  # the first that was published says none
    return config


def network(config: dict, dtype: torch.dtype = torch.float64) -> torch.nn.Module:
    """A network of that config with random weights."""
    torch.manual_seed(0)
    net = FAMILY.build(FAMILY.spec_of(config))
    for name, parameter in net.named_parameters():
        if "scale" in name:  # tables and noise, which begin as zeros
            torch.nn.init.normal_(parameter, std=0.3)
    return net.to(dtype).eval().requires_grad_(False)


def folder(path: Path, name: str) -> Path:
    """A folder as models are published in, with a narrow and shallow model of that name."""
    config = shallow(name)
    state = network(config, torch.float32).state_dict()
    state["latents_mean"], state["latents_std"] = torch.randn(4), torch.rand(4) + 0.5
    path.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in state.items()}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(config))
    return path
