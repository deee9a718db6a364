"""Videos and caches in S3, as a server on this machine keeps them; see helpers/s3_server.py."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import cache_clips as clips
from helpers.s3_server import Faulty, serve_s3
from helpers.tars import write_tar

from vidlatent.errors import BadInput, UsageError
from vidlatent.io.sources import patience
from vidlatent.jobs.cache.bucket import open_home
from vidlatent.jobs.cache.compact import compact
from vidlatent.jobs.cache.ray_engine import RayOptions, run_on_ray
from vidlatent.jobs.cache.scan import scan
from vidlatent.jobs.cache.shards import Sharding
from vidlatent.jobs.cache.verify import find_wrong_records, verify
from vidlatent.jobs.models import ModelChoice
from vidlatent.jobs.readback.dataset import LatentDataset

s3fs = pytest.importorskip("s3fs")
pytest.importorskip("moto.moto_server.werkzeug_app")
pytestmark = pytest.mark.slow


@pytest.fixture
def server(monkeypatch) -> Iterator[Faulty]:
    with serve_s3("bucket") as (faulty, address):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "S3CRET")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setattr(patience, "WAITS_S", (0, 0, 0))
        open_home.cache_clear()
        yield faulty


def test_a_bucket_gives_the_entries_that_a_disk_gives_whatever_goes_wrong_on_the_way(tmp_path, server):
    folder = clips.write_clips(tmp_path / "videos", 4)
    (folder / "clip0.txt").write_text("a cat")
    members = {path.name: path.read_bytes() for path in sorted(folder.glob("clip[23]*"))}
    write_tar(folder / "s.tar", *members.items())
    for name in members:
        (folder / name).unlink()
    (folder / "t.csv").write_text("path\nclip1.avi\ngone.avi\n")
    s3fs.S3FileSystem().put(f"{folder}/", "bucket/videos/", recursive=True)
    server.faults = {"clip0.avi": ["503", "short"], "clip1.avi": ["short", "503"], "s.tar": ["503", "hang"]}
    found = clips.cache("s3://bucket/videos", tmp_path / "cache")
    assert not any(server.faults.values())
    clips.cache(folder, tmp_path / "disk")
    assert (found.done, found.failed) == (4, 0)
    assert clips.objects(tmp_path / "cache") == clips.objects(tmp_path / "disk")
    asked = len(server.asked)
    again = clips.cache("s3://bucket/videos/**/*.avi", tmp_path / "cache")
    assert (again.reused, again.failed) == (2, 0) and len(server.asked) == asked + 2  # the folder, and a text
    listed = clips.cache("s3://bucket/videos/t.csv", tmp_path / "cache")
    assert (listed.reused, listed.failed) == (1, 1)
    rows = {row.source: row for row in clips.rows(tmp_path / "cache")}
    assert rows["s3://bucket/videos/clip0.avi"].facts == {"caption": "a cat"}
    assert rows["s3://bucket/videos/gone.avi"].error.endswith("gone.avi: no such object")
    kept = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert b"S3CRET" not in kept


def test_a_bucket_that_is_not_there_is_said_to_be_missing(tmp_path, server):
    for source in ("s3://nowhere/videos", "s3://nowhere/*.mp4"):
        with pytest.raises((UsageError, BadInput), match=r"no such object|matches no object"):
            list(scan([source], tmp_path))


def test_a_bucket_without_credentials_says_where_they_are_sought(tmp_path, server, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(BadInput, match=r"Credential.*\n?hint: credentials are found by the driver itself"):
        list(scan(["s3://bucket/videos"], tmp_path))


BUSY = {  # a machine with more to do: Ray and its workers may be slow to start
    "RAY_worker_niceness": "0",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_memory_monitor_refresh_ms": "0",
}
WORKER = """
import sys
from helpers import cache_clips as clips
from vidlatent.io.sources import patience
from vidlatent.jobs.cache import bucket, leases, parts
patience.WAITS_S = (0.05,) * 7
leases.BEAT_S, leases.LEFT_S = 1.0, 5.0
bucket.BucketHome.poll_s = 0.5
parts.MOST_LINES = 2
tally = clips.cache(sys.argv[1], sys.argv[2])
print(tally.done, tally.reused, tally.failed)
"""


def start_worker(source: str, root: str) -> subprocess.Popen:
    tests = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": f"{tests.parent}:{tests}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WORKER, source, root]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def list_bucket(folder: str) -> list[str]:
    return s3fs.S3FileSystem(use_listings_cache=False).find(f"bucket/cache/{folder}")


def read_bucket(folder: str) -> dict[str, bytes]:
    fs = s3fs.S3FileSystem(use_listings_cache=False)
    return {name.removeprefix("bucket/cache/"): fs.cat_file(name) for name in list_bucket(folder)}


def wait_until(true: Callable[[], object]) -> None:
    until = time.monotonic() + 120
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_two_processes_after_a_killed_one_make_in_a_bucket_what_a_disk_gets(tmp_path, server):
    folder = clips.write_clips(tmp_path / "videos", 8)
    clips.cache(folder, tmp_path / "disk")
    s3fs.S3FileSystem().put(f"{folder}/", "bucket/videos/", recursive=True)
    server.every = 13
    source, root = "s3://bucket/videos", "s3://bucket/cache"
    killed = start_worker(source, root)
    wait_until(lambda: len(list_bucket("objects")) > 1)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    made = len(list_bucket("objects"))
    assert made < 8
    workers = [start_worker(source, root) for _ in range(2)]
    counts = [list(map(int, worker.communicate(timeout=240)[0].split())) for worker in workers]
    assert [sum(count) for count in counts] == [8, 8] and not any(failed for _, _, failed in counts)
    assert sum(done for done, _, _ in counts) == 8 - made  # nothing was made twice
    assert {"503", "deaf", "short"} <= server.befell.keys()
    entries = {
        str(p.relative_to(tmp_path / "disk")): p.read_bytes() for p in tmp_path.glob("disk/objects/*/*")
    }
    assert read_bucket("objects") == entries
    assert not list_bucket("claims")
    told = [(*row[1:8], row[9]) for row in clips.truth(root)]  # all but where the videos lie, and errors
    assert told == [(*row[1:8], row[9]) for row in clips.truth(tmp_path / "disk")]
    assert list(verify(root)) == [None] * 8 and not list(find_wrong_records(root))
    assert compact(root)[0].records == 8
    open_home.cache_clear()
    data, here = LatentDataset(root), LatentDataset(tmp_path / "disk")
    assert all(data[n]["latents"].equal(here[n]["latents"]) for n in range(8))


def test_a_cluster_of_ray_makes_in_a_bucket_what_a_disk_gets(tmp_path, server, monkeypatch):
    for name, value in BUSY.items():
        monkeypatch.setenv(name, value)
    pytest.importorskip("ray.data", reason="needs the extra: pip install 'vidlatent[ray]'")
    folder = clips.write_clips(tmp_path / "videos", 6)
    clips.cache(folder, tmp_path / "disk")
    root, where = "s3://bucket/cache", RayOptions(actors=2)
    options = replace(clips.ONE, shards=Sharding("tar", 1 << 20))
    choice = ModelChoice("toy", "cpu")
    tally = run_on_ray([str(folder)], root, choice, clips.recipe(), options, where)
    assert (tally.done, tally.failed) == (6, 0)
    assert clips.truth(root) == clips.truth(tmp_path / "disk")
    assert not list_bucket("objects") and not list_bucket("claims") and len(list_bucket("shards")) > 1
    assert list(verify(root)) == [None] * 6
    data, here = LatentDataset(root), LatentDataset(tmp_path / "disk")
    assert all(data[n]["latents"].equal(here[n]["latents"]) for n in range(6))
