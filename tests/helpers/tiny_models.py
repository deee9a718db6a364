"""Files of tiny models as their authors publish them: random weights, true names and shapes."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from vidlatent.models import registry
from vidlatent.models.base import Layout
from vidlatent.models.tae_vae import FAMILY


def save_tiny(name: str, path: Path) -> Path:
    """A file with the keys and shapes that are published under that name, in half precision."""
    network = FAMILY.build(registry.find(name)).half()
    layout = FAMILY.layouts[int(name.endswith("super"))]
    theirs = {layout.rename(key): key for key in possible_keys(layout)}
    state = {theirs[key]: value.contiguous() for key, value in network.state_dict().items()}
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    return path


def possible_keys(layout: Layout) -> list[str]:
    """Every key that a file of this layout may have; few of them are real."""
    insides = ("", "conv.", *(f"conv.{n}." for n in range(5)))
    return [
        f"{side}.{number}.{inside}{kind}"
        for side in ("encoder", "decoder")
        for number in range(23)
        for inside in insides
        for kind in ("weight", "bias")
    ]
