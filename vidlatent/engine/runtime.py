"""Where and how a network runs: device, dtype, and how much memory that takes."""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from vidlatent.dtypes import DTYPES
from vidlatent.errors import UsageError, parameter

try:
    import resource
except ImportError:  # Windows
    resource = None


@dataclass(frozen=True)
class Runtime:
    """A device and the dtype that networks compute in there."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def choose(
        cls, device: str | torch.device | None = None, dtype: torch.dtype | str | None = None
    ) -> "Runtime":
        """The named device, else the best there is; unless told otherwise bf16 on CUDA, fp32 elsewhere."""
        chosen = pick_device(device)
        usual = torch.bfloat16 if chosen.type == "cuda" else torch.float32
        return cls(chosen, usual if dtype is None else named_dtype(dtype))

    @property
    def dtype_name(self) -> str:
        """`fp32`, `fp16` or `bf16`."""
        return next((name for name in DTYPES if named_dtype(name) == self.dtype), str(self.dtype))

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a CUDA one."""
        return self.device.type == "cuda"

    def synchronise(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


def pick_device(name: str | torch.device | None) -> torch.device:
    """`name` as a device that is really here; without a name cuda, else mps, else cpu."""
    if name is None:
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ValueError) as e:
        raise UsageError(
            f"{parameter('device')} {name}: not available here",
            f"use {parameter('device')} cpu, or leave it out",
        ) from e
    return device


def named_dtype(name: str | torch.dtype) -> torch.dtype:
    """`fp32`, `fp16` or `bf16` as torch knows it; one of torch's own stays as it is."""
    known = {ours: getattr(torch, dtype.torch) for ours, dtype in DTYPES.items()}
    if name in known.values():
        return name
    if name not in known:
        raise UsageError(f"{parameter('dtype')} {name}: unknown", f"one of {', '.join(known)}")
    return known[name]


def peak_host_bytes() -> int:
    """Largest resident set of this process so far; 0 where the system does not say it."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the parent had when it forked this process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_device_bytes(device: torch.device) -> int:
    """Most memory allocated on `device` so far; 0 for a device that is the host."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
