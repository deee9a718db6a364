"""Caches in object stores: the same entries and rows as on a disk, and who else works there is seen."""

from contextlib import closing
from pathlib import Path

import fsspec
import pytest
from helpers import cache_clips as clips
from helpers.buckets import new_bucket, read_all

from vidlatent.io.sources import patience
from vidlatent.jobs.cache import bucket, leases, parts
from vidlatent.jobs.cache.bucket import open_home
from vidlatent.jobs.cache.manifest import Manifest
from vidlatent.jobs.cache.options import RunOptions
from vidlatent.jobs.cache.store import Store


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return clips.write_clips(tmp_path_factory.mktemp("videos"), 3)


@pytest.fixture(scope="module")
def disk(videos, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("disk") / "cache"
    clips.cache(videos, root)
    return root


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Nobody waits before asking again, and each test works on the bucket as another process would."""
    monkeypatch.setattr(patience, "WAITS_S", (0, 0, 0))
    monkeypatch.setattr(bucket.BucketHome, "poll_s", 0.02)
    open_home.cache_clear()


@pytest.fixture
def root() -> str:
    return f"{new_bucket()}/a/cache"


def entries(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("objects/*/*.latent")}


def be_another_process() -> None:
    open_home.cache_clear()


def test_entries_and_rows_are_those_of_a_disk_and_another_process_finds_them(videos, disk, root):
    first = clips.cache(videos, root)
    assert (first.done, first.failed) == (3, 0)
    assert {
        name.removeprefix("a/cache/"): d for name, d in read_all("memory://cached", "a/cache/objects").items()
    } == entries(disk)
    be_another_process()
    assert clips.truth(root) == clips.truth(disk)
    before = read_all(root)
    second = clips.cache(videos, root)
    assert (second.done, second.reused) == (0, 3)
    assert read_all(root).keys() == before.keys()
