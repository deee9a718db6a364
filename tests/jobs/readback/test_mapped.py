"""The catalog of a large cache in files says what a list says, and is made once."""

import pickle
import shutil
import warnings
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import cache_clips as clips
from hypothesis import given
from hypothesis import strategies as st

from vidlatent.errors import BadInput, UsageError
from vidlatent.jobs.cache.claims import Claim
from vidlatent.jobs.cache.gc import find_garbage, remove_garbage
from vidlatent.jobs.cache.manifest import FAILED, Manifest
from vidlatent.jobs.cache.shards import Sharding
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.readback import mapped
from vidlatent.jobs.readback.buckets import BucketSampler
from vidlatent.jobs.readback.columns import MappedEntries
from vidlatent.jobs.readback.dataset import LatentDataset
from vidlatent.jobs.readback.entries import CatalogEntry, Entries, ListedEntries
from vidlatent.jobs.readback.mapped import make_catalog
from vidlatent.jobs.readback.stream import LatentStream, mix

pytestmark = pytest.mark.filterwarnings("ignore:.*its catalog is made now")


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """Five clips of three lengths in a cache, and three of them in a shard; not to be changed."""
    folder = tmp_path_factory.mktemp("five")
    clips.write_clips(folder / "videos", 5)
    for n in range(3):
        (folder / "some").mkdir(exist_ok=True)
        (folder / f"some/clip{n}.avi").symlink_to(folder / f"videos/clip{n}.avi")
    clips.cache(folder / "some", folder / "cache", replace(clips.ONE, shards=Sharding("tar", 1 << 20)))
    (folder / "videos/clip3.txt").write_text("a cat")
    clips.cache(folder / "videos", folder / "cache")
    return folder / "cache"


@pytest.fixture
def root(kept, tmp_path) -> Path:
    """A copy of that cache."""
    return shutil.copytree(kept, tmp_path / "cache")


@pytest.fixture
def large(monkeypatch):
    """Every cache is large."""
    monkeypatch.setattr(mapped, "MANY", 1)


def list_entries(data: LatentDataset) -> list:
    return [data.entries[n] for n in range(len(data))]


def fail_one(root: Path) -> None:
    """A row that says of the last clip, which is like no other, that it failed."""
    with closing(Manifest(Store(root))) as manifest:
        *_, row = manifest.rows()
        manifest.add(replace(row, status=FAILED))


def test_a_small_cache_is_listed_and_nothing_is_written(root):
    before = sorted(root.rglob("*"))
    assert len(LatentDataset(root)) == 8 and sorted(root.rglob("*")) == before


def test_a_large_cache_is_mapped_and_gives_the_same_entries(root, large, monkeypatch):
    monkeypatch.setattr(mapped, "MANY", 100)
    listed = list_entries(LatentDataset(root))
    monkeypatch.setattr(mapped, "MANY", 1)
    data = LatentDataset(root)
    assert list_entries(data) == listed and isinstance(data.entries._catalogs[0], MappedEntries)
    assert {entry.part is None for entry in listed} == {True, False}
    assert any(entry.facts == {"caption": "a cat"} for entry in listed)
    assert [data.shape(n) for n in range(len(data))] == [entry.shape for entry in listed]
    assert data[5]["latents"].shape == listed[5].shape


def test_a_catalog_is_made_once_and_again_where_the_cache_has_changed(root, large, monkeypatch):
    with pytest.warns(UserWarning, match="its catalog is made now"):
        LatentDataset(root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(LatentDataset(root)) == 8
    fail_one(root)
    with pytest.warns(UserWarning, match="its catalog is made now"):
        assert len(LatentDataset(root)) == 7


def test_a_catalog_that_was_made_ahead_serves_a_small_cache_too(root):
    folder, counts = make_catalog(root)
    assert folder.parent == root / "catalog" and sum(counts.values()) == 8
    assert isinstance(LatentDataset(root).entries._catalogs[0], MappedEntries)


def test_where_the_cache_may_not_be_written_the_catalog_is_made_elsewhere(root, large, monkeypatch):
    def refuse(path):
        raise UsageError("read-only")

    monkeypatch.setattr(Claim, "take", staticmethod(refuse))
    data = LatentDataset(root)
    assert len(list_entries(data)) == 8 and not (root / "catalog").exists()


def test_a_data_set_is_pickled_by_the_place_of_its_catalog(root, large):
    data = LatentDataset(root, crop=2)
    again = pickle.loads(pickle.dumps(data))
    assert list_entries(again) == list_entries(data) and len(pickle.dumps(data.entries)) < 2000


def test_recipes_are_not_mixed(root, large):
    with closing(Manifest(Store(root))) as manifest:
        row = next(manifest.rows())
        manifest.add(replace(row, recipe="other"))
    with pytest.raises(UsageError, match="holds 2 recipes"):
        LatentDataset(root)
    assert len(LatentDataset(root, recipe="other")) == 1 and len(LatentDataset(root, recipe=row.recipe)) == 8
    with pytest.raises(UsageError, match="has nothing of recipe none"):
        LatentDataset(root, recipe="none")


@pytest.mark.parametrize("name", ["0.kind", "0.text", "catalog.json"])
def test_a_column_that_was_cut_is_said(root, name):
    folder, _ = make_catalog(root)
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadInput, match=rf"{name}: damaged .*\nhint: remove the folder"):
        LatentDataset(root)


def test_gc_removes_catalogs_of_a_cache_that_has_changed(root):
    old, _ = make_catalog(root)
    assert not [item for item in find_garbage(root) if item.path.is_relative_to(root / "catalog")]
    fail_one(root)
    items = [item for item in find_garbage(root) if item.path.is_relative_to(root / "catalog")]
    assert {item.path.parent for item in items} == {old}
    remove_garbage(root, items)
    assert not old.exists()


shapes = st.tuples(st.integers(1, 4), st.just(4), st.integers(1, 2), st.just(2))


@given(st.lists(st.lists(shapes, max_size=6), max_size=3), st.integers(0, 4))
def test_entries_of_several_catalogs_are_numbered_one_after_the_other(places, least):
    listed = [[CatalogEntry(Path("x"), shape, f"{n}") for shape in place] for n, place in enumerate(places)]
    wanted = [entry for entries in listed for entry in entries if entry.shape[0] >= least]
    found = Entries([ListedEntries(entries) for entries in listed], least)
    assert list(found) == wanted and found.found == sum(map(len, listed))
    assert [found.shape(n) for n in range(len(found))] == [entry.shape for entry in wanted]
    groups = {s: [n for n, e in enumerate(wanted) if e.shape == s] for s in {e.shape for e in wanted}}
    assert {shape: numbers.tolist() for shape, numbers in found.by_shape().items()} == groups


@pytest.mark.parametrize(("drop_last", "ranks"), [(False, 1), (False, 3), (True, 1), (True, 2)])
def test_batches_are_those_that_were_made_from_lists(kept, drop_last, ranks):
    """A training run that goes on with this release sees the batches that it would have seen."""
    data = LatentDataset(kept)
    rng, batches = np.random.default_rng([7, 3]), []
    numbers = range(len(data))
    buckets = {shape: [n for n in numbers if data.shape(n) == shape] for shape in map(data.shape, numbers)}
    for shape in sorted(buckets):
        order = rng.permutation(buckets[shape]).tolist()
        count = len(order) // 2 * 2 if drop_last else len(order)
        batches += [order[i : i + 2] for i in range(0, count, 2)]
    batches = [batches[i] for i in rng.permutation(len(batches))]
    each = len(batches) // ranks if drop_last else -(-len(batches) // ranks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for rank in range(ranks):
            sampler = BucketSampler(data, 2, seed=7, rank=rank, world_size=ranks, drop_last=drop_last)
            sampler.set_epoch(3)
            wanted = [batches[(n * ranks + rank) % len(batches)] for n in range(each)]
            assert list(sampler) == sampler.batches() == wanted and len(sampler) == each
            shown = {i for n in range(each * ranks) for i in batches[n % len(batches)]}
            assert sampler.dropped == len(data) - len(shown)


@given(st.integers(0, 30), st.integers(2, 8), st.integers(0, 9))
def test_what_is_mixed_comes_once_and_not_long_before_its_turn(number, count, seed):
    mixed = list(mix(iter(range(number)), count, np.random.default_rng(seed)))
    assert sorted(mixed) == list(range(number))
    assert all(item <= place + count for place, item in enumerate(mixed))


def test_a_stream_with_a_buffer_gives_all_clips_in_another_order_and_goes_on_where_it_was(kept):
    def keys(stream):
        return [item["key"] for item in stream]

    plain, orders = keys(LatentStream(kept)), set()
    for epoch in range(8):
        stream = LatentStream(kept, buffer=3)
        stream.set_epoch(epoch)
        orders.add(tuple(keys(stream)))
    assert len(orders) > 1 and all(sorted(order) == sorted(plain) for order in orders)
    stream, again = LatentStream(kept, buffer=3), LatentStream(kept, buffer=3)
    steps = iter(stream)
    first = next(steps)["key"]
    again.load_state_dict(stream.state_dict())
    assert [first, *keys(again)] == keys(LatentStream(kept, buffer=3))
