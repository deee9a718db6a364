"""Killed at any moment and run again, a cache is byte for byte what an undisturbed run gives."""

import importlib.util
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

_HELPERS = Path(__file__).parents[1] / "jobs" / "cache" / "clips.py"
_spec = importlib.util.spec_from_file_location("cache_clips", _HELPERS)
clips = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(clips)

CLIPS = 6
SECONDS = 60


def begin(folder: Path, root: Path) -> subprocess.Popen:
    """A run in a process of its own."""
    command = [sys.executable, "-m", "vidlatent", "cache", str(folder), "-o", str(root)]
    return subprocess.Popen([*command, "-m", "toy", "--workers", "1"], stderr=subprocess.DEVNULL)


def kill_after(process: subprocess.Popen, root: Path, entries: int, delay_s: float) -> None:
    """Kill −9 a moment after so many entries are there."""
    deadline = time.monotonic() + SECONDS
    while len(list((root / "objects").glob("*/*.latent"))) < entries and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(delay_s)
    process.kill()
    process.wait()


@pytest.mark.parametrize("seed", [1])
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path, seed):
    folder, root = clips.write_clips(tmp_path / "videos", CLIPS), tmp_path / "cache"
    (folder / "empty.mp4").touch()
    clips.cache(folder, tmp_path / "undisturbed")
    chance = random.Random(seed)
    for entries in sorted(chance.sample(range(CLIPS), 3)):
        kill_after(begin(folder, root), root, entries, chance.uniform(0, 0.05))
    made_before = {p: p.stat().st_mtime_ns for p in (root / "objects").glob("*/*.latent")}
    clips.cache(folder, root)
    assert clips.objects(root) == clips.objects(tmp_path / "undisturbed")
    assert clips.truth(root) == clips.truth(tmp_path / "undisturbed")
    assert {p: p.stat().st_mtime_ns for p in made_before} == made_before  # what was there was not made again
