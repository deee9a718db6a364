"""Training that begins where an exported model ended, in a network that may have more blocks."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from training.layout import channels_last
from vidlatent.models.pocket_vae import PocketConfig, PocketVAE, spec_of


def grown(folder: Path, config: Mapping[str, object]) -> PocketVAE:
    """The model in `folder` with the fields of `config` changed; blocks that it lacks begin silent.

    A silent block adds nothing at first, so the numbers are those of the exported model. Fields that change
    the shape of a layer that is there are refused by torch.
    """
    held = json.loads((folder / "config.json").read_text())
    unlimited = {**vars(PocketConfig.of(held)), "limits": ()}  # export measures them anew
    model = PocketVAE(spec_of({**unlimited, **config}))
    weights = {key: value.float() for key, value in load_file(folder / "model.safetensors").items()}
    missing, unknown = model.load_state_dict(weights, strict=False)
    if unknown:
        raise SystemExit(f"{folder} has blocks that this network lacks: {', '.join(unknown)}")
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name in missing and name.endswith("mix.weight"):
                p.zero_()
    return channels_last(model)
