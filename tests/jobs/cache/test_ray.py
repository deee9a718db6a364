"""The same cache from Ray: byte for byte, and with a worker killed or asked to stop on the way."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from helpers import cache_clips as clips

pytest.importorskip("ray.data", reason="needs the extra: pip install 'vidlatent[ray]'")

from vidlatent.errors import UsageError
from vidlatent.jobs.cache.manifest import open_manifest
from vidlatent.jobs.cache.options import RunOptions
from vidlatent.jobs.cache.ray_engine import RayOptions, run_on_ray
from vidlatent.jobs.cache.shards import Sharding
from vidlatent.jobs.models import ModelChoice
from vidlatent.jobs.small.budget import Budget

CLIPS = 12
BUSY = {  # Ray's workers give way to all others, and may be given up for it, unless told not to
    "RAY_worker_niceness": "0",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_memory_monitor_refresh_ms": "0",
}


@pytest.fixture(scope="module")
def cluster():
    """Two workers on this machine."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        for name, value in BUSY.items():
            patch.setenv(name, value)
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
        yield ray
        ray.shutdown()


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = clips.write_clips(tmp_path_factory.mktemp("ray") / "videos", CLIPS)
    (folder / "empty.mp4").touch()
    (folder / "notes.txt").write_text("words")
    clips.cache(folder, folder.parent / "local")
    return folder


def on_ray(videos: Path, root: Path, **more):
    choice, options = ModelChoice("toy", "cpu"), RunOptions(workers=1, **more)
    return run_on_ray([str(videos)], root, choice, clips.recipe(), options, RayOptions(actors=2))


def end_an_actor(root: Path, how: signal.Signals, ended: list[int]) -> None:
    """Send a signal to whoever wrote the first row; its process is in the journal's name."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if journals := list((root / "manifest").glob("*.jsonl")):
            pid = int(journals[0].stem.rpartition("-")[2])
            os.kill(pid, how)
            ended.append(pid)
            return
        time.sleep(0.01)


@pytest.mark.slow
def test_ray_makes_the_same_cache_byte_for_byte(cluster, videos, tmp_path):
    tally = on_ray(videos, tmp_path / "cache")
    assert (tally.done, tally.failed, tally.skipped) == (CLIPS, 1, 1)
    assert clips.objects(tmp_path / "cache") == clips.objects(videos.parent / "local")
    assert clips.truth(tmp_path / "cache") == clips.truth(videos.parent / "local")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_an_actor_that_is_killed_or_asked_to_stop_costs_nothing_but_time(cluster, videos, tmp_path, how):
    root, ended = tmp_path / "cache", []
    ender = threading.Thread(target=end_an_actor, args=(root, how, ended))
    ender.start()
    on_ray(videos, root)
    ender.join()
    writers = {path.stem.rpartition("-")[2] for path in (root / "manifest").glob("*.jsonl")}
    assert ended and len(writers) > 1 and not Path(f"/proc/{ended[0]}").exists()
    assert clips.objects(root) == clips.objects(videos.parent / "local")
    assert clips.truth(root) == clips.truth(videos.parent / "local")
    if how == signal.SIGTERM:  # it gave up its claims, and what it had begun it finished
        assert not list((root / "claims").iterdir())


@pytest.mark.slow
def test_actors_pack_latents_as_a_run_without_ray_does(cluster, videos, tmp_path):
    clip, wishes = videos / "clip0.avi", {"store": "packed", "budget": Budget(0.2)}
    clips.cache(clip, tmp_path / "local", **wishes)
    choice, options = ModelChoice("toy", "cpu"), RunOptions(workers=1)
    where = RayOptions(actors=1)
    tally = run_on_ray([str(clip)], tmp_path / "ray", choice, clips.recipe(**wishes), options, where)
    assert tally.done == 1 and tally.measured_s > 0
    assert clips.objects(tmp_path / "ray") == clips.objects(tmp_path / "local")


@pytest.mark.slow
def test_a_source_that_is_wrong_is_said_as_without_ray(cluster, videos, tmp_path):
    choice, options = ModelChoice("toy", "cpu"), RunOptions(workers=1)
    sources = [str(videos), f"{videos}/*.none"]
    with pytest.raises(UsageError, match="matches no file"):
        run_on_ray(sources, tmp_path / "cache", choice, clips.recipe(), options, RayOptions(actors=1))


@pytest.mark.slow
def test_actors_pack_shards_and_the_rest_is_packed_at_the_end(cluster, videos, tmp_path):
    root = tmp_path / "cache"
    on_ray(videos, root, shards=Sharding("tar", 300_000))
    manifest = open_manifest(root)
    made = {f"objects/{row.key[:2]}/{row.key}.latent": manifest.place(row).sha256()
            for row in manifest.entries() if row.status == "done"}  # fmt: skip
    assert made == clips.objects(videos.parent / "local") and not clips.objects(root)
    assert len(list(root.glob("shards/*.tar"))) > 1
