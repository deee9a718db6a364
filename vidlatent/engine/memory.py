"""Memory as a promise: trace what a window would take, and choose a plan that keeps within a limit.

A network is traced on fake tensors: every operation runs its shape arithmetic and nothing else, and
the bytes alive at each moment are added up. What libraries use besides is covered by a margin.
"""

import resource
import weakref
from bisect import bisect_left
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vidlatent.engine.model import Model
from vidlatent.engine.plan import PlanWishes, plan_for, shortened
from vidlatent.engine.runtime import peak_host_bytes
from vidlatent.errors import OutOfResources, UsageError
from vidlatent.models.base import VideoVAE
from vidlatent.models.causal import TimeState, whole
from vidlatent.windows import Plan, TimeRule

MARGIN = 1.25  # convolution workspaces and the allocator's rounding, measured at up to 1.2
QUEUES_BYTES = 200 << 20  # read-ahead of frames, codecs
SMALLEST_TILE_PX = 64


class LiveBytes(TorchDispatchMode):
    """Adds up the storage of tensors made under it, and remembers the peak."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

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


@dataclass(frozen=True)
class Fit:
    """A plan that keeps within a limit, and what must be said of how it came to be."""

    plan: Plan
    notices: tuple[str, ...] = ()


def settle(
    model: Model, plan: Plan, size: tuple[int, int], limit: int | None = None, encode: bool = True
) -> Fit:
    """The plan to run frames of `size` (height, width) with: as asked, unless memory forbids it.

    Without a limit in bytes, an exact model runs as asked, others within what the device has free.
    """
    if limit is None:
        limit = None if model.spec.exact else available_bytes(model.runtime.device)
    return fit(model, plan, size, limit, encode) if limit else Fit(plan)


def window_bytes(model: Model, plan: Plan, size: tuple[int, int], encode: bool) -> int:
    """Peak bytes of a window of frames of `size` (height, width) through the network, without weights."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # slow to import, rarely wanted

    grid, spec = model.spec.grid, model.spec
    plan = shortened(plan, spec, *size)
    tiles = plan.encode_tiles if encode else plan.decode_tiles
    sides = [side + grid.missing_pixels(side) for side in size]
    if not encode:
        sides = [side // grid.space for side in sides]
    area = [min(side, tiles.size) if tiles else side for side in sides]
    rule = plan.encode_time if encode else plan.decode_time
    length, channels = rule.longest or 1, 3 if encode else spec.channels
    with FakeTensorMode(), torch.inference_mode():
        network = type(model.network)(spec)
        state = {k: torch.empty_like(v, dtype=model.runtime.dtype) for k, v in network.state_dict().items()}
        network.load_state_dict(state, assign=True)
        x = torch.empty(1, channels, length, *area, dtype=model.runtime.dtype)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        with LiveBytes() as meter:
            state = _filled(network, x, meter) if not encode and spec.latency > 1 else TimeState()
            whole((network.encode if encode else network.decode)(x, state))
    inputs = length * channels * sides[0] * sides[1] * model.runtime.dtype.itemsize
    outputs = 2 * 4 * _output_values(spec, length, sides, encode)  # float32, and once more where blended
    return round(MARGIN * meter.peak) + inputs + outputs


def _filled(network: VideoVAE, latents: Tensor, meter: LiveBytes) -> TimeState:
    """The state of a decoder that holds frames back, once it holds all it ever will; uncounted work."""
    state = TimeState(more=True)
    for _ in network.decode(latents[:, :, :1].expand(-1, -1, network.spec.latency, -1, -1), state):
        pass
    meter.peak = meter.live
    return state


def _output_values(spec, length: int, sides: list[int], encode: bool) -> int:
    grid = spec.grid
    if encode:
        return grid.latents(length) * 2 * spec.channels * sides[0] * sides[1] // grid.space**2
    return grid.frames(length) * 3 * sides[0] * sides[1] * grid.space**2


def fit(model: Model, plan: Plan, size: tuple[int, int], limit: int, encode: bool) -> Fit:
    """The first plan that keeps within `limit` bytes, or OutOfResources where not even the smallest does.

    As asked, else with shorter chunks (exact models), else in the largest tiles that fit.
    """
    fixed = fixed_bytes(model) + QUEUES_BYTES

    def need(candidate: tuple[Plan, str]) -> int:
        return fixed + window_bytes(model, candidate[0], size, encode)

    if need((plan, "")) <= limit:
        return Fit(plan)
    candidates = smaller_plans(model, plan, max(size))
    least = need(candidates[-1] if candidates else (plan, ""))
    if least > limit:
        raise OutOfResources(
            f"{model.spec.name} at {size[1]}x{size[0]} does not fit {limit / 1e9:.2f} GB: "
            f"the smallest plan needs about {least / 1e9:.2f} GB",
            "raise --max-memory, encode at a smaller --size, or use --dtype bf16",
        )
    first = bisect_left(candidates, -limit, key=lambda candidate: -need(candidate))
    chosen, how = candidates[first]
    taken = need(candidates[first]) / 1e9
    return Fit(chosen, (f"{how}, to keep within {limit / 1e9:.1f} GB (needs about {taken:.1f} GB)",))


def smaller_plans(model: Model, plan: Plan, side: int) -> list[tuple[Plan, str]]:
    """Plans that take less and less memory, and what each changes."""
    spec, plans = model.spec, []
    if spec.exact:  # its chunks change nothing but memory
        plan = replace(plan, encode_time=TimeRule(spec.grid.time), decode_time=TimeRule(1))
        plans.append((plan, f"chunks of {spec.grid.time} frames"))
    if spec.tiles is None:
        return plans
    largest = plan.encode_tiles.size if plan.encode_tiles else side
    for tile in tile_sizes(largest - 1):
        try:
            tiled = plan_for(spec, PlanWishes(tile=tile))
        except UsageError:  # not every size suits every rule
            continue
        plans.append((plan.tiled_as(tiled), f"tiles of {tile} px"))
    return plans


def tile_sizes(largest: int) -> range:
    """Tile sides to try, from `largest` down in steps of the grid that most rules allow."""
    return range(largest // 8 * 8, SMALLEST_TILE_PX - 1, -8)


def fixed_bytes(model: Model) -> int:
    """What is taken before any window: on a GPU the weights, on the host all of this process."""
    if model.runtime.device.type == "cpu":
        return resident_bytes()
    return sum(p.numel() * p.element_size() for p in model.network.parameters())


def resident_bytes() -> int:
    """Resident set of this process now."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return peak_host_bytes()


def available_bytes(device: torch.device) -> int | None:
    """Memory free for use on a device, this process's own share included; None where unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if device.type != "cpu" or not meminfo.exists():
        return None
    free = next(line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable"))
    return int(free.split()[1]) * 1024 + resident_bytes()
