"""A cache in any form: its keys and rows say which, and whoever reads it finds latents."""

from pathlib import Path

import pytest
import torch
from helpers import cache_clips as clips

from vidlatent.errors import BadInput, UsageError
from vidlatent.jobs.cache.manifest import open_manifest
from vidlatent.jobs.cache.packer import pack_all
from vidlatent.jobs.cache.shards import Sharding
from vidlatent.jobs.cache.status import describe_cache
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.summary import summarise
from vidlatent.jobs.cache.verify import verify
from vidlatent.jobs.encode import EncodeOptions
from vidlatent.jobs.exchange.export import ExportOptions, export
from vidlatent.jobs.readback.dataset import LatentDataset
from vidlatent.jobs.readback.stream import LatentStream

FORMS = {
    "int8": ({"store": "int8"}, "int8", "int8"),
    "planes": ({"store": "bf16", "pack": True}, "planes", "bf16 --pack"),
}
OFF = 0.5 / 127 + 2**-8  # of int8, relative to the largest magnitude: half a step, and bf16


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("forms") / "videos"
    for n in range(2):
        clips.write_clip(folder / f"{n}.avi", n, frames=5 + 4 * n)
    clips.cache(folder, folder.parent / "floats", store="bf16")
    return folder


@pytest.fixture(scope="module", params=FORMS)
def form(request, videos) -> tuple[Path, str, str]:
    """A cache of the videos, the name of its form, and what people call it."""
    wishes, name, words = FORMS[request.param]
    clips.cache(videos, videos.parent / name, **wishes)
    return videos.parent / name, name, words


def floats(videos: Path) -> dict[str, torch.Tensor]:
    return {item["source"]: item["latents"] for item in LatentDataset(videos.parent / "floats")}


def test_rows_say_the_form_and_keys_are_others(form, videos):
    root, name, _ = form
    rows = clips.rows(root)
    assert {(row.form, row.dtype) for row in rows} == {(name, "BF16")}
    assert not {row.key for row in rows} & {row.key for row in clips.rows(videos.parent / "floats")}


def test_those_who_look_after_a_cache_know_of_it(form):
    root, _, words = form
    assert describe_cache(root)["stored"] == {words: 2}
    assert list(verify(root)) == [None, None]
    found = summarise(root)
    assert (found.stored, found.sizes[words]) == ((words,), found.bytes)


def test_samples_are_latents(form, videos):
    root, name, _ = form
    for item in LatentDataset(root):
        wanted = floats(videos)[item["source"]]
        assert item["latents"].dtype == torch.bfloat16
        error = (item["latents"].float() - wanted.float()).abs().max()
        assert error <= (0 if name == "planes" else wanted.abs().max() * OFF)


def test_crops_are_cut_out_of_the_whole(form):
    whole = {item["source"]: item["latents"] for item in LatentDataset(form[0])}
    for item in LatentDataset(form[0], crop=2):
        start = item["start"]
        assert torch.equal(item["latents"], whole[item["source"]][start : start + 2])


@pytest.mark.parametrize("kind", ["tar", "safetensors"])
def test_shards_of_both_kinds_hold_it(form, kind, tmp_path, videos):
    clips.cache(videos, tmp_path / "cache", **FORMS[form[1]][0])
    before = {item["source"]: item["latents"] for item in LatentDataset(tmp_path / "cache")}
    pack_all(Store(tmp_path / "cache"), Sharding(kind))
    for again in (LatentDataset(tmp_path / "cache"), LatentStream(tmp_path / "cache")):
        assert {name: latents.tolist() for name, latents in before.items()} == {
            item["source"]: item["latents"].tolist() for item in again
        }
    assert list(verify(tmp_path / "cache")) == [None, None]


def test_trainers_get_floats(form, tmp_path, videos):
    list(export(form[0], tmp_path / "out", "safetensors"))
    for item in LatentDataset(tmp_path / "out"):
        wanted = next(i for i in LatentDataset(form[0]) if i["source"] == item["source"])
        assert torch.equal(item["latents"], wanted["latents"])


def test_an_export_may_be_in_another_form(videos, tmp_path):
    list(export(videos.parent / "floats", tmp_path / "out", "webdataset", ExportOptions(store="int8")))
    items = list(LatentDataset(tmp_path / "out"))
    assert len(items) == 2
    for item in items:
        wanted = floats(videos)[item["source"]].float()
        assert 0 < (item["latents"].float() - wanted).abs().max() <= wanted.abs().max() * OFF
    assert LatentDataset(tmp_path / "out", raw=True)[0]["latents"].dtype == torch.int8
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md", "export.json", "shard-000000.tar",
    ]  # fmt: skip


def test_tools_that_hold_floats_take_no_other_form(videos, tmp_path):
    with pytest.raises(UsageError, match="store int8: safetensors takes floats as they are"):
        list(export(videos.parent / "floats", tmp_path / "out", "safetensors", ExportOptions(store="int8")))


@pytest.mark.parametrize("crop", [None, 1])
def test_raw_samples_are_codes_and_what_they_are_times(form, crop):
    root, name, _ = form
    if name != "int8":
        with pytest.raises(BadInput, match="stored as planes, which have no codes and steps"):
            LatentDataset(root, raw=True)[0]
        return
    for item, wanted in zip(LatentDataset(root, crop, raw=True), LatentDataset(root, crop), strict=True):
        assert item["latents"].dtype == torch.int8
        latents = (item["latents"] * item["steps"][..., None, None]).bfloat16()
        assert torch.equal(latents, wanted["latents"])


def test_raw_samples_are_no_latents_to_normalise(form):
    with pytest.raises(UsageError, match="raw gives codes, normalise latents"):
        LatentDataset(form[0], raw=True, normalise=True)


def test_a_replay_of_the_manifest_knows_the_form(form):
    """Rows of an older vidlatent have no form, and are floats."""
    row = next(open_manifest(form[0]).entries())
    record = {name: getattr(row, name) for name in ("source", "status", "key", "shape", "dtype")}
    assert type(row).parse(record).form == ""


WRONG = {
    "an unknown word": ({"store": "int4"}, "store int4: unknown"),
    "int8 in planes": ({"store": "int8", "pack": True}, "pack: packs floats, and int8 are none"),
    "int8 of a distribution": (
        {"store": "int8", "posterior": "full"},
        "store int8: of posterior full mean and logvar are stored as floats",
    ),
    "planes of a distribution": ({"pack": True, "posterior": "full"}, "pack: of posterior full"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_words_that_name_no_form_are_refused_before_anything_is_read(wrong):
    wishes, told = WRONG[wrong]
    for make in (EncodeOptions, clips.recipe):
        with pytest.raises(UsageError, match=told):
            make(**wishes)
