"""Every clip in every epoch, on every rank as often, and on from where a run was saved."""

import pickle
from collections.abc import Iterator

import pytest
from helpers import cache_clips as clips
from torch.utils.data import DataLoader

from vidlatent.errors import BadInput, UsageError
from vidlatent.jobs.exchange.export import ExportOptions, export
from vidlatent.jobs.readback.buckets import BucketSampler
from vidlatent.jobs.readback.dataset import Draw, LatentDataset
from vidlatent.jobs.readback.stream import LatentStream

CLIPS = 7  # five of one shape, two of another
CROP = 2


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    folder = tmp_path_factory.mktemp("epochs")
    for n in range(CLIPS):
        clips.write_clip(folder / f"videos/{n}.avi", n, frames=17, size=(32, 32) if n < 5 else (48, 32))
    clips.cache(folder / "videos", folder / "cache")
    return folder / "cache"


@pytest.fixture(scope="module")
def shards(cached, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "tars"
    list(export(cached, folder, "webdataset", ExportOptions(shard_bytes=200_000)))
    return folder


def flat(batches) -> list:
    return [index for batch in batches for index in batch]


def test_clips_of_rare_shapes_are_shown_in_every_epoch(cached):
    """Incomplete batches were left out without a word: of a small cache nothing was left."""
    dataset = LatentDataset(cached)
    sampler = BucketSampler(dataset, batch_size=4)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert sorted(flat(batches)) == list(range(CLIPS)) and len(batches) == len(sampler) == 3
        assert sampler.dropped == 0


def test_what_is_dropped_is_counted_and_said(cached):
    with pytest.warns(UserWarning, match="3 of 7 clips are not shown in an epoch"):
        sampler = BucketSampler(LatentDataset(cached), batch_size=4, drop_last=True)
    assert sampler.dropped == 3 and list(map(len, sampler)) == [4]


def test_a_sampler_without_a_batch_is_refused(cached):
    with pytest.raises(
        UsageError, match=r"no batch of 6 .* commonest of 2 shapes has 5 clips\nhint: leave drop_last"
    ):
        BucketSampler(LatentDataset(cached), batch_size=6, drop_last=True)


def test_a_dataset_without_a_clip_is_refused(cached):
    with pytest.raises(
        BadInput, match="none of 7 clips has 9 latent frames, the longest has 5\nhint: lower crop"
    ):
        LatentDataset(cached, crop=9)


@pytest.mark.parametrize("world", [2, 3, 9])
def test_ranks_show_every_clip_and_as_many_batches(cached, world):
    dataset = LatentDataset(cached)
    ranks = [list(BucketSampler(dataset, 2, rank=rank, world_size=world)) for rank in range(world)]
    assert len(set(map(len, ranks))) == 1 and set(flat(map(flat, ranks))) == set(range(CLIPS))


def test_an_index_counts_from_the_end_too_and_ends_somewhere(cached):
    dataset = LatentDataset(cached)
    assert dataset[-1]["key"] == dataset[CLIPS - 1]["key"]
    for index in (CLIPS, -CLIPS - 1):
        with pytest.raises(IndexError, match=f"clip {index} of {CLIPS}"):
            dataset[index]


def test_an_index_carries_its_epoch_to_other_processes():
    draw = pickle.loads(pickle.dumps(Draw(3, 5)))
    assert (draw, draw.epoch) == (3, 5)


def starts(batches) -> list[tuple[str, int]]:
    return [
        (key, int(start))
        for batch in batches
        for key, start in zip(batch["key"], batch["start"], strict=True)
    ]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores, on purpose
@pytest.mark.parametrize("workers", [0, 4])
def test_a_stateful_loader_goes_on_at_the_batch_it_stopped_at(cached, workers):
    """Its state said 0 batches, and the epoch began again without a word."""
    loaders = pytest.importorskip("torchdata.stateful_dataloader", reason="needs torchdata")
    dataset = LatentDataset(cached, crop=CROP)

    def load() -> tuple[object, BucketSampler]:
        sampler = BucketSampler(dataset, batch_size=1, seed=2)
        loader = loaders.StatefulDataLoader(
            dataset, batch_sampler=sampler, num_workers=workers, collate_fn=dataset.collate
        )
        return loader, sampler

    whole, sampler = load()
    sampler.set_epoch(4)
    running = iter(whole)
    begun = [next(running) for _ in range(3)]
    state = whole.state_dict()
    rest = starts(running)
    resumed, again = load()
    resumed.load_state_dict(state)
    assert starts(resumed) == rest and len(begun) + len(rest) == CLIPS
    again.set_epoch(5)
    assert len(starts(resumed)) == CLIPS, "the next epoch is whole"


def test_a_loader_that_asks_for_states_is_told_how_far_the_sampler_is(cached):
    """What a stateful loader does, by hand: it makes iterators that it never uses, and loads both states."""
    sampler = BucketSampler(LatentDataset(cached), batch_size=2, seed=2)
    whole = list(sampler)
    iter(sampler)
    running = iter(sampler)
    next(running)
    states = sampler.state_dict(), running.state_dict()
    assert states == ({"epoch": 0, "batches": 1}, {"epoch": 0, "batches": 1})
    other = BucketSampler(LatentDataset(cached), batch_size=2, seed=2)
    iter(other)
    other.load_state_dict(states[0])
    fresh = iter(other)
    fresh.load_state_dict(states[1])
    assert list(fresh) == whole[1:] and list(other) == whole


def test_workers_that_are_kept_draw_the_crops_of_the_epoch_they_are_told(cached):
    dataset = LatentDataset(cached, crop=CROP)
    loader = DataLoader(
        dataset, batch_size=1, num_workers=1, persistent_workers=True, collate_fn=dataset.collate
    )
    found = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        found.append(starts(loader))
    assert found[0] == found[2] != found[1]


def test_a_stream_tells_workers_that_are_kept_the_epoch(shards):
    stream = LatentStream(shards, crop=CROP)
    loader = DataLoader(stream, batch_size=None, num_workers=1, persistent_workers=True)

    def run(epoch: int) -> list[tuple[str, int]]:
        stream.set_epoch(epoch)
        return [(item["key"], item["start"]) for item in loader]

    first, second, third = run(0), run(1), run(0)
    assert first == third != second and len(first) == len(second) == CLIPS


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_of_a_stream_give_as_many_clips_each(shards, world):
    """A rank that has a clip less than the others leaves them waiting at the end of the epoch."""

    def keys(rank: int) -> Iterator[str]:
        return (item["key"] for item in LatentStream(shards, rank=rank, world_size=world))

    ranks = [list(keys(rank)) for rank in range(world)]
    assert {len(rank) for rank in ranks} == {-(-CLIPS // world)}
    assert len(set(flat(ranks))) == CLIPS
