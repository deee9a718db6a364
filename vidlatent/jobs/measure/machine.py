"""The machine and the libraries that a number was measured with, and clocks and meters to measure by."""

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Generic, TypeVar

import av
import imageio_ffmpeg
import torch

from vidlatent.engine.runtime import peak_device_bytes, peak_host_bytes

T = TypeVar("T")


def describe_machine(device: torch.device | None = None, ffmpeg: bool = False) -> dict[str, object]:
    """The facts of this machine and its libraries that matter to a number; of ffmpeg where it was used."""
    return {
        "system": platform.platform(),
        "processor": _name_processor(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device and device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "av": av.__version__,
        "vidlatent": version("vidlatent"),
        **({"ffmpeg": imageio_ffmpeg.get_ffmpeg_version()} if ffmpeg else {}),
    }


def _name_processor() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0].split(":")[1].strip() if names else platform.processor()


class Clocked(Generic[T]):
    """An iterator that adds up the seconds spent in its own next(), those of the device included."""

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
    """The most memory taken since this object was made, on the host and on the device.

    Where the system cannot forget a peak (anywhere but on Linux), that of the host is since the process
    began.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        _forget_peak()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def host(self) -> int:
        """The largest resident set in bytes."""
        return peak_host_bytes()

    def on_device(self) -> int | None:
        """The most bytes allocated on the device; None where the device is the host."""
        return peak_device_bytes(self._device) or None


def _forget_peak() -> None:
    """Ask Linux to forget the process's peak (proc(5), clear_refs); other systems cannot."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
