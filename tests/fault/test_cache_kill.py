"""Killed at any moment and run again, a cache is byte for byte what an undisturbed run gives."""

import random
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import cache_clips as clips
from helpers import warm

from vidlatent.jobs.cache.manifest import open_manifest
from vidlatent.jobs.cache.shards import Sharding

CLIPS = 6
SECONDS = 60


def begin(folder: Path, root: Path, *flags: str) -> subprocess.Popen:
    """A run in a process of its own."""
    command = ["-m", "vidlatent", "cache", folder, "-o", root, "-m", "toy", "--workers", "1"]
    return warm.Process([*command, *flags], stderr=subprocess.DEVNULL)


def rows_written(root: Path) -> int:
    """Lines in the manifest."""
    return sum(path.read_bytes().count(b"\n") for path in root.glob("manifest/*"))


def kill_after(process: subprocess.Popen, root: Path, rows: int, delay_s: float) -> None:
    """Kill −9 a moment after so many rows are there."""
    deadline = time.monotonic() + SECONDS
    while rows_written(root) < rows and process.poll() is None:
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


@pytest.mark.parametrize("kind", ["tar", pytest.param("safetensors", marks=pytest.mark.slow)])
def test_a_killed_run_that_packs_shards_resumes_to_the_same_bytes(tmp_path, kind):
    folder, root = clips.write_clips(tmp_path / "videos", CLIPS), tmp_path / "cache"
    options = replace(clips.ONE, shards=Sharding(kind, 200_000))
    clips.cache(folder, tmp_path / "undisturbed", options)
    chance = random.Random(kind)
    flags = ("--shards", kind, "--shard-size", "200000")
    for rows in sorted(chance.sample(range(CLIPS), 2)):
        kill_after(begin(folder, root, *flags), root, rows, chance.uniform(0, 0.05))
    clips.cache(folder, root, options)
    assert entries(root) == entries(tmp_path / "undisturbed") and len(entries(root)) == CLIPS
    assert not clips.objects(root)


def entries(root: Path) -> dict[str, str]:
    """Every key, and the sha256 of the bytes of its entry."""
    manifest = open_manifest(root)
    return {row.key: manifest.place(row).sha256() for row in manifest.entries()}
