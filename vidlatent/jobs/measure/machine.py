"""What a number was measured on, and with."""

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Generic, TypeVar

import av
import torch

from vidlatent.engine.runtime import peak_device_bytes, peak_host_bytes

T = TypeVar("T")


def machine(device: torch.device | None = None) -> dict[str, object]:
    """Facts about this machine and the libraries that matter to a number."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device and device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "av": av.__version__,
        "vidlatent": version("vidlatent"),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0].split(":")[1].strip() if names else platform.processor()


class Clocked(Generic[T]):
    """An iterator that adds up the seconds spent in its own next(), the device's work included."""

    def __init__(self, items: Iterator[T], synchronise: Callable[[], None] = lambda: None) -> None:
        self._items = iter(items)
        self._synchronise = synchronise
        self.seconds = 0.0

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        began = time.perf_counter()
        try:
            item = next(self._items)
            self._synchronise()
            return item
        finally:
            self.seconds += time.perf_counter() - began


class PeakMemory:
    """Largest resident set, and most device memory, since this object was made.

    Where the system cannot forget its peak (anywhere but Linux), the host's is that of the whole process.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        _forget_peak()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def host(self) -> int:
        """Bytes of resident memory."""
        return peak_host_bytes()

    def on_device(self) -> int | None:
        """Bytes allocated on the device; None where that is the host."""
        return peak_device_bytes(self._device) or None


def _forget_peak() -> None:
    """Ask Linux to start the process's high-water mark anew (proc(5), clear_refs); others refuse."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
