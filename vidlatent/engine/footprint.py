"""What one tile of a clip takes in a network, found out without running it.

The network is built of tensors of the device "meta": every operation runs its shape arithmetic and nothing
else, and the bytes alive at each moment are added up. The layers take that device for a CPU.
"""

import json
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vidlatent.engine.model import Model
from vidlatent.models.arithmetic import is_cpu
from vidlatent.models.base import ModelSpec, VideoVAE
from vidlatent.models.causal import TimeState
from vidlatent.models.convolution import layout_of

_CONVOLUTIONS = (torch.ops.aten.conv3d.default, torch.ops.aten.convolution.default)
_UNFOLDED_BELOW = 20480  # of all sides of the input but its width, multiplied

Call = tuple[int, bool]  # frames (or latent frames) that go in, and whether the clip goes on


@dataclass(frozen=True)
class Footprint:
    """Bytes that a tile takes in a network.

    `work` is there while a call is computed, `state` between calls as well; `growth` is what each call after
    the second adds to the state of networks that look at all of the past.
    """

    work: int
    state: int
    growth: int = 0


@dataclass(frozen=True)
class Network:
    """One direction of a network, without its weights: equal to another whose tensors have the same sizes."""

    kind: type
    config: str
    dtype: torch.dtype
    encode: bool
    spec: ModelSpec = field(compare=False)
    cpu: bool = True

    @classmethod
    def of(cls, model: Model, encode: bool) -> "Network":
        """The network of a model, as it encodes or decodes."""
        spec = model.spec
        config = json.dumps([dict(spec.config), dict(spec.settings)], sort_keys=True, default=str)
        run = model.runtime
        return cls(type(model.network), config, run.dtype, encode, spec, run.device.type == "cpu")


class LiveBytes(TorchDispatchMode):
    """Adds up the storage of tensors made under it, and remembers the peak. That of `others` is not new."""

    def __init__(self, others: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in others}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, storage.nbytes())

    def _forget(self, key: int, nbytes: int) -> None:
        self._known.discard(key)
        self.live -= nbytes


class WorkingBytes(LiveBytes):
    """The same, and what PyTorch itself takes besides while it convolves."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = super().__torch_dispatch__(func, types, args, kwargs)
        if func in _CONVOLUTIONS:
            others = self.live - out.untyped_storage().nbytes()
            self.peak = max(self.peak, others + unfolded_bytes(args[0], args[1], out))
        return out


def unfolded_bytes(x: Tensor, weight: Tensor, out: Tensor) -> int:
    """Bytes that PyTorch takes on a CPU to unfold the input of a 3-D convolution that it finds small.

    Every input that an output sees is copied for it, unless oneDNN convolves: see ConvParams::use_mkldnn in
    ATen/native/Convolution.cpp.
    """
    if x.dim() != 5 or not is_cpu(x.device) or x.shape[0] > 1 or x.shape[:4].numel() > _UNFOLDED_BELOW:
        return 0
    return weight[0].numel() * out[0, 0].numel() * x.element_size()


@lru_cache(maxsize=1024)
def footprint(network: Network, calls: tuple[Call, ...], height: int, width: int, past: int = 0) -> Footprint:
    """What `calls` of a network take, one after the other: a tile's height and width are those of its input.

    The state that a call finds counts as well as what it leaves, so several calls are needed to know both. A
    decoder that holds frames back, in a clip that goes on, is looked at once it holds all that it ever will.
    """
    with torch.device("meta"), torch.inference_mode():
        built = network.kind(network.spec).to("meta")  # constants too
        weights = {
            name: torch.empty(each.shape, dtype=network.dtype, memory_format=layout_of(each, "cpu"))
            for name, each in built.state_dict().items()
        }
        built.load_state_dict(weights, assign=True)
        state, kept = TimeState(more=True, past=past, cpu=network.cpu), []
        with WorkingBytes(weights.values()) as meter:
            if calls[0][1] and not network.encode and network.spec.latency > 1:
                _run(network, built, (network.spec.latency, height, width), state)
                meter.peak, calls = meter.live, calls[:1]
            for frames, state.more in calls:
                _run(network, built, (frames, height, width), state)
                kept.append(state.nbytes)
    growth = kept[1] - kept[0] if len(kept) > 1 and calls[1][1] else 0
    return Footprint(max(0, meter.peak - max(kept)), max(kept), max(0, growth))


def _run(network: Network, built: VideoVAE, shape: tuple[int, int, int], state: TimeState) -> None:
    """One call with a clip of `shape`; no piece is kept, for what is made of them is counted elsewhere."""
    channels, apply = (3, built.encode) if network.encode else (network.spec.channels, built.decode)
    x = torch.empty(1, channels, *shape, dtype=network.dtype)
    for piece in apply(x.contiguous(memory_format=torch.channels_last_3d), state):
        del piece
