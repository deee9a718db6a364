"""Kernels laid out as the activations are."""

import torch
from torch import nn


def channels_last(model: nn.Module) -> nn.Module:
    """The same module, its kernels laid out for channels-last activations."""
    for p in model.parameters():
        if p.ndim >= 4:
            layout = torch.channels_last if p.ndim == 4 else torch.channels_last_3d
            p.data = p.data.contiguous(memory_format=layout)
    return model
