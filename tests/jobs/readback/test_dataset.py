"""What training reads is what was written: every slice, in every worker, after every resume."""

import pickle
from pathlib import Path

import pytest
import torch
from helpers import cache_clips as clips
from helpers.tars import write_tar
from torch.utils.data import DataLoader

import vidlatent
from vidlatent.errors import BadInput, UsageError
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.exchange.export import ExportOptions, export
from vidlatent.jobs.readback.buckets import BucketSampler
from vidlatent.jobs.readback.dataset import Draw, LatentDataset, OpenFiles
from vidlatent.jobs.readback.stream import LatentStream

CROP = 2


@pytest.fixture(scope="module")
def cached(tmp_path_factory) -> Path:
    """Eight clips of 2 to 6 latent frames, two of another shape."""
    folder = tmp_path_factory.mktemp("dataset")
    for n in range(6):
        clips.write_clip(folder / f"videos/{n}.avi", n, frames=5 + 4 * (n % 5))
    for n in range(6, 8):
        clips.write_clip(folder / f"videos/{n}.avi", n, frames=17, size=(48, 32))
    clips.cache(folder / "videos", folder / "cache")
    return folder / "cache"


@pytest.fixture(scope="module")
def shards(cached, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "tars"
    list(export(cached, folder, "webdataset", ExportOptions(shard_bytes=400_000)))
    assert len(list(folder.iterdir())) > 2
    return folder


def slices(cached: Path) -> dict[str, torch.Tensor]:
    """All latents by source, as open_latent reads them."""
    found = {}
    for row in clips.rows(cached):
        with vidlatent.open_latent(Store(cached).entry_path(row.key)) as latents:
            found[row.source] = latents.read(0, latents.frames)
    return found


def test_whole_clips_are_what_open_latent_gives(cached):
    dataset, expected = vidlatent.LatentDataset(cached), slices(cached)
    assert len(dataset) == 8
    for index in range(len(dataset)):
        item = dataset[index]
        assert torch.equal(item["latents"], expected[item["source"]])
        assert tuple(item["latents"].shape) == dataset.shape(index)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores, on purpose
@pytest.mark.parametrize("workers", [0, 4])
def test_random_crops_are_exactly_the_slices_that_open_latent_gives(cached, workers):
    expected = slices(cached)
    sampler = BucketSampler(LatentDataset(cached, crop=CROP), batch_size=2)
    loader = DataLoader(
        LatentDataset(cached, crop=CROP),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=LatentDataset.collate,
    )
    seen = 0
    for batch in loader:
        for latents, start, source in zip(
            batch["latents"], batch["start"].tolist(), batch["source"], strict=True
        ):
            assert torch.equal(latents, expected[source][start : start + CROP])
            seen += 1
    assert seen == 8


def test_crops_vary_with_the_epoch_and_repeat_with_the_seed(cached):
    first, again, other = (LatentDataset(cached, crop=CROP, seed=seed) for seed in (0, 0, 1))
    count = len(first)

    def starts(dataset: LatentDataset, epochs: range) -> list[int]:
        return [dataset[Draw(index, epoch)]["start"] for epoch in epochs for index in range(count)]

    assert starts(first, range(4)) == starts(again, range(4)) != starts(other, range(4))
    assert starts(first, range(1)) != starts(first, range(1, 2))
    again.set_epoch(1)
    assert [again[index]["start"] for index in range(count)] == starts(first, range(1, 2))


def test_only_the_bytes_of_the_crop_are_read(cached, monkeypatch):
    dataset = LatentDataset(cached, crop=CROP)
    asked = []
    read = vidlatent.io.latent.reader.LatentReader.read
    monkeypatch.setattr(
        "vidlatent.io.latent.reader.LatentReader.read",
        lambda reader, start, stop: asked.append(stop - start) or read(reader, start, stop),
    )
    for index in range(len(dataset)):
        dataset[index]
    assert asked == [CROP] * len(dataset)


def test_clips_too_short_for_the_crop_are_left_out_and_counted(cached):
    dataset = LatentDataset(cached, crop=5)
    assert (len(dataset), dataset.too_short) == (4, 4)
    assert all(dataset[index]["latents"].shape[0] == 5 for index in range(4))


def test_normalised_latents_are_what_a_diffusion_model_expects(tmp_path, sample):
    model = vidlatent.load_model("pocket", "cpu")
    read = vidlatent.ReadOptions(size=(64, 64), frames=5)
    vidlatent.encode(sample, tmp_path / "a.latent", model, vidlatent.EncodeOptions(read, audio=False))
    (raw,), (normal,) = (LatentDataset(tmp_path, normalise=flag) for flag in (False, True))  # one clip each
    scale, shift = (torch.tensor(v).view(-1, 1, 1) for v in (model.spec.scale, model.spec.shift))
    assert torch.equal(normal["latents"], (raw["latents"] - shift) * scale)
    assert 0.3 < normal["latents"].std() < 3


def test_batches_hold_one_shape_and_every_clip_once(cached):
    dataset = LatentDataset(cached)
    sampler = BucketSampler(dataset, batch_size=1)
    assert sorted(index for batch in sampler for index in batch) == list(range(8)) and len(sampler) == 8
    pairs = list(BucketSampler(LatentDataset(cached, crop=CROP), batch_size=2))
    assert all(len({dataset.shape(index)[1:] for index in batch}) == 1 for batch in pairs)


def test_ranks_share_the_batches(cached):
    dataset = LatentDataset(cached, crop=CROP)
    ranks = [list(BucketSampler(dataset, 1, rank=rank, world_size=3, drop_last=True)) for rank in range(3)]
    assert [len(batches) for batches in ranks] == [2, 2, 2]
    assert len({index for batches in ranks for batch in batches for index in batch}) == 6


def test_training_goes_on_where_it_was_saved(cached):
    dataset = LatentDataset(cached, crop=CROP)
    whole = BucketSampler(dataset, 2, seed=5)
    whole.set_epoch(3)
    batches = list(whole)
    resumed = BucketSampler(dataset, 2, seed=5)
    resumed.load_state_dict(whole.state_dict(batches=2))
    assert list(resumed) == batches[2:]


def test_a_dataset_travels_to_other_processes_without_its_files(cached):
    dataset = LatentDataset(cached, crop=CROP)
    first = dataset[0]
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[0]["latents"], first["latents"])


def test_few_files_are_open_at_once(cached):
    open_files = OpenFiles(limit=3)
    for entry in LatentDataset(cached).entries:
        open_files.reader(entry)
    assert len(open_files._readers) == 3


def test_shards_hold_what_the_cache_holds(cached, shards):
    expected = slices(cached)
    dataset = LatentDataset(shards, crop=CROP)
    assert len(dataset) == 8
    for index in range(8):
        item = dataset[index]
        assert torch.equal(item["latents"], expected[item["source"]][item["start"] : item["start"] + CROP])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_gives_every_clip_of_the_shards_once(cached, shards, workers):
    expected = slices(cached)
    stream = LatentStream(shards, crop=CROP)
    items = list(DataLoader(stream, batch_size=None, num_workers=workers))
    assert sorted(item["source"] for item in items) == sorted(expected)
    for item in items:
        assert torch.equal(item["latents"], expected[item["source"]][item["start"] : item["start"] + CROP])


def test_ranks_share_the_shards(cached, shards):
    ranks = [[item["source"] for item in LatentStream(shards, rank=rank, world_size=2)] for rank in range(2)]
    assert sorted(ranks[0] + ranks[1]) == sorted(slices(cached)) and all(ranks)


def test_a_stream_goes_on_where_it_was_saved(shards):
    stream = LatentStream(shards, crop=CROP)
    stream.set_epoch(2)
    running = iter(stream)
    begun = [next(running) for _ in range(3)]
    state = stream.state_dict()
    rest = [(item["source"], item["start"]) for item in running]
    resumed = LatentStream(shards, crop=CROP)
    resumed.load_state_dict(state)
    assert [(item["source"], item["start"]) for item in resumed] == rest and len(begun) + len(rest) == 8


def test_recipes_are_not_mixed(tmp_path):
    folder = clips.write_clips(tmp_path / "videos", 2)
    clips.cache(folder, tmp_path / "cache")
    clips.cache(folder, tmp_path / "cache", frames=1)
    with pytest.raises(UsageError, match="holds 2 recipes\nhint: choose one by recipe: "):
        LatentDataset(tmp_path / "cache")
    with pytest.raises(UsageError, match="holds 2 recipes"):
        list(export(tmp_path / "cache", tmp_path / "out", "webdataset"))
    recipe = next(row.recipe for row in clips.rows(tmp_path / "cache") if row.frames == 1)
    assert [entry.shape[0] for entry in LatentDataset(tmp_path / "cache", recipe=recipe).entries] == [1, 1]


def test_a_folder_without_latents_is_an_error(tmp_path):
    with pytest.raises(BadInput, match="no cache"):
        LatentDataset(tmp_path)


@pytest.mark.parametrize("kind", [LatentDataset, LatentStream])
@pytest.mark.parametrize("crop", [0, -1])
def test_a_crop_of_nothing_is_refused(kind, crop, tmp_path):
    with pytest.raises(UsageError, match=f"crop {crop}: no latent frames"):
        kind(tmp_path, crop=crop)


def test_a_cache_of_nothing_yet_is_an_error(tmp_path):
    Store.create(tmp_path / "cache")
    with pytest.raises(BadInput, match="holds no latents yet"):
        LatentDataset(tmp_path / "cache")


def test_a_shard_packed_by_hand_gives_as_many_entries_as_it_has(cached, tmp_path):
    """`tar c .` puts ./ in front of every name, and folders may have dots."""
    row = clips.rows(cached)[0]
    latent = Store(cached).entry_path(row.key).read_bytes()
    names = ("./a", "./v1.0/b", "v1.0/c.d")
    path = write_tar(tmp_path / "x.tar", *((f"{name}.latent", latent) for name in names), ("./a.json", b"{}"))
    dataset = LatentDataset(path)
    assert [item["key"] for item in dataset] == ["a", "v1.0/b", "v1.0/c.d"]
    assert tuple(dataset[2]["latents"].shape) == row.shape


@pytest.mark.parametrize("text", [b"null", b"[1]", b"no JSON", b"[" * 100_000])
def test_a_shard_with_a_row_that_is_none_names_the_member(cached, tmp_path, text):
    path = write_tar(tmp_path / "x.tar", ("k.latent", b""), ("k.json", text))
    with pytest.raises(BadInput, match=r"x\.tar: not a shard of latents \(k\.json: "):
        LatentDataset(path)


def test_a_row_whose_facts_are_of_another_kind_costs_them_alone(cached, tmp_path):
    row = clips.rows(cached)[0]
    latent = Store(cached).entry_path(row.key).read_bytes()
    told = b'{"shape": [1, "2"], "facts": 3, "source": {}}'
    (item,) = LatentDataset(write_tar(tmp_path / "x.tar", ("k.latent", latent), ("k.json", told)))
    assert tuple(item["latents"].shape) == row.shape and (item["source"], item["facts"]) == ("k", {})
