"""Memory does not grow with the number of clips, and keeps within --max-memory: all processes together."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import cache_clips as clips

from vidlatent.engine.load import load_model
from vidlatent.jobs.cache.options import RunOptions
from vidlatent.jobs.cache.run import run

CLIPS = 1000
WARM = 200  # clips until pools, caches and allocators are full
GROWTH_BYTES = 24 << 20  # of 800 more clips: rows and hashes of a clip take about 5 kB
LIMIT_BYTES = 2 << 30
PAGE = os.sysconf("SC_PAGE_SIZE")


class Meter:
    """Resident bytes of this process and its children, after every clip."""

    def __init__(self) -> None:
        self.bytes: list[int] = []

    def update(self, tally) -> None:
        """One more sample."""
        self.bytes.append(sum(resident(pid) for pid in (os.getpid(), *children(os.getpid()))))


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except FileNotFoundError:
        return 0


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    found: list[int] = []
    for task in tasks.iterdir():
        with suppress(OSError):  # a thread that has ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("processes_as_in_real_life")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_memory_is_flat_over_a_thousand_clips_and_within_its_limit(tmp_path):
    folder = tmp_path / "videos"
    for n in range(CLIPS):
        clips.write_clip(folder / f"{n:04d}.avi", n, frames=5)
    meter = Meter()
    options = RunOptions(workers=1, max_memory=LIMIT_BYTES)
    tally = run([str(folder)], tmp_path / "cache", load_model("toy", "cpu"), clips.recipe(), options, meter)
    shutil.rmtree(folder)
    assert tally.done == CLIPS
    before, after = (sorted(part)[len(part) // 2] for part in (meter.bytes[WARM:400], meter.bytes[-200:]))
    print(f"{before / 1e6:.1f} MB, later {after / 1e6:.1f} MB, peak {max(meter.bytes) / 1e6:.1f} MB")
    assert after - before < GROWTH_BYTES
    assert max(meter.bytes) < LIMIT_BYTES
