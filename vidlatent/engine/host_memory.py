"""How much memory this process has, and how much it may still take: of the machine, and of its container."""

import mmap
from collections.abc import Iterator
from pathlib import Path

import torch

from vidlatent.engine.runtime import peak_host_bytes

# A control group's files: its limit, what it uses, and the line of memory.stat that says how much of
# that is file cache nobody has touched for a while, which the kernel drops before it refuses anything.
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = ("memory.max", "memory.current", "inactive_file")


def resident_bytes() -> int:
    """Resident set of this process now; elsewhere than on Linux, the largest so far."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * mmap.PAGESIZE
    return peak_host_bytes()


def available_bytes(device: torch.device) -> int | None:
    """Memory that this process may have on a device, its present share included; None where unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    meminfo = Path("/proc/meminfo")
    if device.type != "cpu" or not meminfo.exists():
        return None
    free = next(line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable"))
    rooms = [int(free.split()[1]) * 1024, container_room()]
    return min(room for room in rooms if room is not None) + resident_bytes()


def container_room(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Bytes that this process's control groups still leave to it; None where none of them has a limit.

    Each group's limit holds for all groups inside it, so the least counts.
    """
    if not membership.exists():
        return None
    rooms = (_room(folder, *files) for folder, files in _groups(membership.read_text(), root))
    return min((room for room in rooms if room is not None), default=None)


def _groups(membership: str, root: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """The folders of a process's memory groups, innermost first, and the names of their files.

    Inside a container the groups outside are often not there to be seen, and the root is its own.
    """
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base, files = (root / "memory", _VERSION_1) if controllers else (root, _VERSION_2)
        group = Path(path.lstrip("/"))
        for inner in () if ".." in group.parts else (group, *group.parents):
            yield base / inner, files


def _room(folder: Path, limit: str, used: str, cache: str) -> int | None:
    """Bytes below the limit of the group in `folder`; None where it has no limit."""
    try:
        most, now = ((folder / name).read_text().strip() for name in (limit, used))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    return int(most) - int(now) + int(stat.get(cache, 0)) if most != "max" else None
