"""Caches in object stores are read as those on a disk are; only what is asked for of a clip is fetched."""

import pickle
import shutil
from pathlib import Path

import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from helpers import cache_clips as clips
from helpers.buckets import copy_into, new_bucket, read_all
from torch.utils.data import DataLoader

from vidlatent.errors import BadInput
from vidlatent.io.sources import patience, ranges
from vidlatent.jobs.cache.bucket import open_home
from vidlatent.jobs.cache.packer import pack_all
from vidlatent.jobs.cache.shards import Sharding
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.verify import verify
from vidlatent.jobs.exchange.export import export
from vidlatent.jobs.readback import mapped
from vidlatent.jobs.readback.dataset import LatentDataset
from vidlatent.jobs.readback.mapped import make_catalog
from vidlatent.jobs.readback.stream import LatentStream

LOOSE, PACKED = "memory://readback/loose", "memory://readback/packed"


@pytest.fixture(scope="module")
def disk(tmp_path_factory) -> Path:
    """Caches of five clips on a disk, loose and in shards, and the same in a bucket; not to be changed."""
    folder = tmp_path_factory.mktemp("readback")
    videos = clips.write_clips(folder / "videos", 5)
    (videos / "clip4.txt").write_text("a cat")
    clips.cache(videos, folder / "loose")
    new_bucket("readback")
    copy_into(LOOSE, folder / "loose")  # as people do with the tools of their store
    for kind in ("tar", "safetensors"):
        shutil.copytree(folder / "loose", folder / kind)
        copy_into(f"{PACKED}-{kind}", folder / "loose")
        for root in (folder / kind, f"{PACKED}-{kind}"):
            pack_all(Store.open(root), Sharding(kind, 20_000))
    return folder


@pytest.fixture(autouse=True)
def be_another_process(monkeypatch):
    """Whoever opens a cache finds nothing of it on this machine."""
    monkeypatch.setattr(patience, "WAITS_S", (0, 0, 0))
    open_home.cache_clear()


pytestmark = pytest.mark.filterwarnings("ignore:.*its catalog is made now")


def same(mine: dict, other: dict) -> bool:
    return mine.keys() == other.keys() and all(
        torch.equal(mine[name], other[name])
        if isinstance(mine[name], torch.Tensor)
        else mine[name] == other[name]
        for name in mine
    )


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("kind", ["loose", "tar", "safetensors"])
def test_a_dataset_gives_the_samples_that_it_gives_from_a_disk(disk, monkeypatch, kind, large):
    address = LOOSE if kind == "loose" else f"{PACKED}-{kind}"
    if large:
        monkeypatch.setattr(mapped, "MANY", 1)
        make_catalog(address)
        open_home.cache_clear()
    stored, here = LatentDataset(address, crop=2, seed=3), LatentDataset(disk / kind, crop=2, seed=3)
    assert len(stored) == len(here) == 5
    assert all(same(stored[n], here[n]) for n in range(5))
    assert same(pickle.loads(pickle.dumps(stored))[1], here[1])


def test_workers_of_a_loader_read_from_a_store_too(disk):
    stored = LatentDataset(LOOSE, crop=1)
    loader = DataLoader(stored, num_workers=1, batch_size=None)
    assert sum(same(a, b) for a, b in zip(loader, stored, strict=True)) == len(stored)


@pytest.mark.parametrize("kind", ["tar", "safetensors"])
@pytest.mark.parametrize(("world_size", "large"), [(1, False), (2, True)])
def test_a_stream_gives_the_samples_that_it_gives_from_a_disk(disk, monkeypatch, kind, world_size, large):
    if large:
        monkeypatch.setattr(mapped, "MANY", 1)
    for rank in range(world_size):
        options = {"crop": 1, "seed": 5, "rank": rank, "world_size": world_size, "buffer": 2}
        stored, here = LatentStream(f"{PACKED}-{kind}", **options), LatentStream(disk / kind, **options)
        assert len(stored.shards) == len(here.shards) > 1
        assert [str(path).rpartition("/")[2] for path in stored.shards] == [path.name for path in here.shards]
        pairs = list(zip(stored, here, strict=True))
        assert len(pairs) >= 5 // world_size and all(same(a, b) for a, b in pairs)


def test_of_an_entry_only_what_is_asked_for_is_fetched(disk, monkeypatch):
    fetched, cat = [], MemoryFileSystem.cat_file
    monkeypatch.setattr(
        MemoryFileSystem,
        "cat_file",
        lambda fs, path, start=None, end=None: (fetched.append((start, end)), cat(fs, path, start, end))[1],
    )
    data = LatentDataset(LOOSE, crop=1)
    assert not fetched  # to know what there is no entry is looked at
    size = data.entries[2].path.end
    monkeypatch.setattr(ranges, "AHEAD_BYTES", size // 3)
    data[2]
    assert len(fetched) == 3  # the header, the times at the end, the latents
    assert 0 < sum(end - start for start, end in fetched) < size
    assert not any(end > size for _, end in fetched)


def test_a_torn_answer_is_asked_for_again(disk, monkeypatch):
    torn, cat = [1, 2], MemoryFileSystem.cat_file

    def tear(fs, path, start=None, end=None):
        found = cat(fs, path, start, end)
        return found[:-1] if torn and torn.pop() else found

    monkeypatch.setattr(MemoryFileSystem, "cat_file", tear)
    assert same(LatentDataset(LOOSE)[0], LatentDataset(disk / "loose")[0]) and not torn


def test_shards_in_a_store_are_those_of_a_disk_and_verify(disk):
    for kind in ("tar", "safetensors"):
        shards = read_all(f"{PACKED}-{kind}", "shards")
        shards.pop("shards/mark")
        on_disk = {f"shards/{path.name}": path.read_bytes() for path in (disk / kind / "shards").iterdir()}
        assert shards == on_disk and not read_all(f"{PACKED}-{kind}", "objects")
        assert list(verify(f"{PACKED}-{kind}")) == [None] * 5


def test_an_export_of_a_store_is_that_of_a_disk(disk, tmp_path):
    for name, root in (("stored", LOOSE), ("here", disk / "loose")):
        list(export(root, tmp_path / name, "webdataset"))
    stored, here = ((tmp_path / name / "shard-000000.tar").read_bytes() for name in ("stored", "here"))
    assert stored == here


def test_a_folder_of_a_store_that_is_no_cache_is_refused(disk):
    for reader in (LatentDataset, LatentStream):
        with pytest.raises(BadInput, match="memory://readback/nothing: no cache"):
            reader("memory://readback/nothing")
