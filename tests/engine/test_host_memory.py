"""What a process may take is what the machine has free, or less where a container says so."""

import sys
from pathlib import Path

import pytest
import torch

from vidlatent.engine import host_memory
from vidlatent.engine.host_memory import available_bytes, container_room, resident_bytes

GB = 1 << 30
CPU = torch.device("cpu")


@pytest.fixture
def machine(tmp_path):
    """Builds control groups from {folder: (limit, used, untouched cache)}, and says which one we are in."""

    def build(membership: str, groups: dict[str, tuple], version: int = 2) -> tuple[Path, Path]:
        names = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"), 2: ("memory.max", "memory.current")}
        stat = {1: "total_inactive_file", 2: "inactive_file"}[version]
        for folder, (limit, used, cache) in groups.items():
            place = tmp_path / "cgroup" / folder
            place.mkdir(parents=True, exist_ok=True)
            for name, number in zip(names[version], (limit, used), strict=True):
                (place / name).write_text(f"{number}\n")
            (place / "memory.stat").write_text(f"anon 7\n{stat} {cache}\n")
        (tmp_path / "self").write_text(membership)
        return tmp_path / "self", tmp_path / "cgroup"

    return build


def test_a_limit_leaves_what_is_not_used_and_the_cache_that_can_be_dropped(machine):
    room = container_room(*machine("0::/job\n", {"job": (8 * GB, 5 * GB, 1 * GB)}))
    assert room == 4 * GB


def test_the_groups_around_ours_limit_us_too(machine):
    groups = {"pod/job": ("max", 3 * GB, 0), "pod": (4 * GB, 3 * GB, 0), "": ("max", 9 * GB, 0)}
    assert container_room(*machine("0::/pod/job\n", groups)) == GB


def test_version_1_is_read_too(machine):
    groups = {"memory/job": (6 * GB, 2 * GB, GB), "memory": ((1 << 63) - 4096, 9 * GB, 0)}
    membership = "5:cpu,cpuacct:/elsewhere\n4:memory:/job\n"
    assert container_room(*machine(membership, groups, version=1)) == 5 * GB


def test_a_container_that_cannot_see_its_own_path_reads_its_root(machine):
    groups = {"memory": (2 * GB, GB, 0)}
    assert container_room(*machine("4:memory:/docker/0123abcd\n", groups, version=1)) == GB


@pytest.mark.parametrize("membership", ["0::/job\n", "0::/../other\n", "3:cpuset:/\n", ""])
def test_without_a_limit_there_is_none(machine, membership):
    assert container_room(*machine(membership, {"job": ("max", GB, 0)})) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_smaller_of_machine_and_container_is_free(monkeypatch):
    monkeypatch.setattr(host_memory, "container_room", lambda: 1 << 20)
    assert abs(available_bytes(CPU) - resident_bytes() - (1 << 20)) < 64 << 20
    monkeypatch.setattr(host_memory, "container_room", lambda: 1 << 60)
    assert GB // 8 < available_bytes(CPU) < 1 << 50
