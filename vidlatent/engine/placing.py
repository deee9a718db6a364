"""Moves the weights of a network to a device, or to another dtype."""

import torch
from torch import nn

from vidlatent.engine.runtime import Runtime, named_dtype, pick_device
from vidlatent.errors import UsageError, parameter
from vidlatent.models.convolution import layout_of

Where = str | int | torch.device | torch.dtype


def find_place(now: Runtime, wanted: tuple[Where, ...], device: Where | None, dtype: Where | None) -> Runtime:
    """Where a network is to be: what was said in any order, and for the rest where it is `now`."""
    for each in wanted:
        if isinstance(each, torch.dtype):
            dtype = each
        else:
            device = each
    return Runtime(
        now.device if device is None else pick_device(device),
        named_dtype(now.dtype if dtype is None else dtype),
    )


def move_weights(network: nn.Module, to: Runtime) -> None:
    """Move all weights in place, one after the other. As when they are loaded, buffers are not cast."""
    weights = [p for p in network.parameters() if p.is_floating_point()]
    _refuse_overflow(weights, to.dtype)
    for weight in weights:
        layout = layout_of(weight, to.device)
        weight.data = weight.data.to(to.device, to.dtype, memory_format=layout)
    network.to(to.device)


def _refuse_overflow(weights: list[nn.Parameter], dtype: torch.dtype) -> None:
    """Raise UsageError where a weight is larger than numbers of `dtype` can be."""
    most = torch.finfo(dtype).max
    if any(torch.finfo(p.dtype).max > most and p.abs().max() > most for p in weights):
        raise UsageError(f"{parameter('dtype')} {dtype}: weights are too large for it", "use bf16 or fp32")
