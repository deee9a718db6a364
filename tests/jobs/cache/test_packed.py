"""Caches whose latents are packed: made so by a run, or by repacking what is there."""

import json
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from helpers import cache_clips as clips
from helpers.toy_sensitivities import known_sensitivities  # noqa: F401

from vidlatent.cli import app
from vidlatent.engine.load import load_model
from vidlatent.errors import BadInput, UsageError
from vidlatent.io.coded.packed import Packed
from vidlatent.io.latent.reader import open_latent
from vidlatent.jobs.cache import repack as repacking
from vidlatent.jobs.cache.gc import find_garbage, remove_garbage
from vidlatent.jobs.cache.key import ModelIdentity, make_recipe_id
from vidlatent.jobs.cache.manifest import Manifest, open_manifest
from vidlatent.jobs.cache.measured import EntryFinisher
from vidlatent.jobs.cache.options import RunOptions
from vidlatent.jobs.cache.packer import pack_all
from vidlatent.jobs.cache.repack import EntryRepacker, repack_cache
from vidlatent.jobs.cache.shards import Sharding
from vidlatent.jobs.cache.status import describe_cache
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.verify import verify
from vidlatent.jobs.cache.wanted import InBudget
from vidlatent.jobs.exchange.export import ExportOptions, export
from vidlatent.jobs.exchange.importing import ImportOptions, import_files
from vidlatent.jobs.inspect import inspect
from vidlatent.jobs.readback.dataset import LatentDataset
from vidlatent.jobs.readback.stream import LatentStream
from vidlatent.jobs.reading.isolated import IsolatedReader
from vidlatent.jobs.small.budget import Budget
from vidlatent.jobs.small.packing import BY_BOUND, BY_FILE, BY_SOURCE, Packing

ALLOWED = Budget(0.2)
WISHES = {"store": "packed", "budget": ALLOWED}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Two clips, one of them under two names, and one whose frames are off the grid."""
    folder = tmp_path_factory.mktemp("packed") / "videos"
    for name, seed, frames in (("a", 0, 9), ("b", 1, 5), ("again", 0, 9), ("off", 2, 7)):
        clips.write_clip(folder / f"{name}.avi", seed, frames=frames)
    clips.cache(folder, folder.parent / "floats")
    return folder


@pytest.fixture
def root(videos, tmp_path) -> Path:
    """A cache of floats, to be repacked."""
    return Path(shutil.copytree(videos.parent / "floats", tmp_path / "cache"))


@pytest.fixture(scope="module")
def packed(videos) -> Path:
    """What a run makes that packs."""
    clips.cache(videos, videos.parent / "packed", **WISHES)
    return videos.parent / "packed"


def repack(root: Path, budget: Budget = ALLOWED, **more) -> list:
    with IsolatedReader() as reader:
        return list(repack_cache(root, InBudget(budget, reader), **more))


def latents(samples: Iterable[dict]) -> dict[str, list]:
    return {item["source"]: item["latents"].tolist() for item in samples}


def said(root: Path) -> set[tuple]:
    """What the rows say of the entries of a cache."""
    names = ("source", "span", "status", "key", "recipe", "shape", "dtype", "form", "bytes", "checksum")
    return {tuple(getattr(row, name) for name in names) for row in clips.rows(root)}


def test_a_run_writes_what_it_measured_into_rows_and_entries(packed):
    rows = clips.rows(packed)
    assert len(rows) == 4 and {row.form for row in rows} == {"packed"}
    for row in rows:
        with open_latent(Store(packed).entry_path(row.key)) as reader:
            assert row.price == reader.header.stored["price"]
            assert "repacked_from" not in reader.header.extra
        assert 0 <= row.price["drop_db"] <= 0.2 and row.price["against"] == BY_SOURCE
        assert any("to measure it took" in notice for notice in row.notices)
    assert list(verify(packed)) == [None] * 3 and find_garbage(packed) == []
    assert describe_cache(packed)["stored"] == {"packed": 3}


def test_such_a_run_goes_on_with_it_and_another_budget_is_another_entry(videos, packed, tmp_path):
    root = Path(shutil.copytree(packed, tmp_path / "cache"))
    assert clips.cache(videos, root, **WISHES).reused == 4
    tally = clips.cache(videos / "b.avi", root, store="packed", budget=Budget(0.3))
    assert (tally.done, tally.reused) == (1, 0) and tally.measured_s > 0


def test_a_default_that_is_said_is_no_other_recipe():
    silent, spoken = clips.recipe(store="packed"), clips.recipe(store="packed", budget=Budget(0.1))
    model = ModelIdentity.of(load_model("toy", "cpu"))
    assert make_recipe_id(silent, model) == make_recipe_id(spoken, model)
    assert make_recipe_id(silent, model) != make_recipe_id(clips.recipe(store="int8"), model)


@pytest.mark.parametrize("wishes", [{"pack": True}, {"posterior": "full"}])
def test_what_is_packed_is_neither_planes_nor_full(wishes):
    with pytest.raises(UsageError, match="pack"):
        clips.recipe(store="packed", **wishes)
    with pytest.raises(UsageError, match="a budget is for what is packed"):
        clips.recipe(store="int8", budget=Budget(0.1))


@pytest.mark.parametrize("kind", [pytest.param("tar", marks=pytest.mark.slow), "safetensors"])
def test_shards_and_their_readers_take_them_as_they_are(videos, packed, tmp_path, kind):
    root = tmp_path / "cache"
    clips.cache(videos, root, RunOptions(workers=1, shards=Sharding(kind)), **WISHES)
    wanted = latents(LatentDataset(packed))
    assert [row.error for row in clips.rows(root)] == [None] * 4
    assert latents(LatentDataset(root)) == wanted and list(verify(root)) == [None] * 3
    streamed = latents(LatentStream(root))
    assert len(streamed) == 3 and all(wanted[source] == found for source, found in streamed.items())


def test_exports_and_imports_read_them_alike(packed, tmp_path):
    list(export(packed, tmp_path / "tars", "webdataset", ExportOptions()))
    found = latents(LatentStream(tmp_path / "tars"))
    wanted = latents(LatentDataset(packed))
    assert len(found) == 4 and all(found[source] == wanted[source] for source in found)
    (first, *_) = import_files((tmp_path / "tars").glob("*.tar"), tmp_path / "files", ImportOptions())
    assert inspect(first.target)["stored"]["form"] == "packed"


def test_a_clip_that_cannot_be_packed_fails_and_the_others_are_made(videos, tmp_path, monkeypatch):
    find, count = Packing.find_form, iter(range(9))

    def fail_once(packing: Packing, budget: Budget) -> Packed:
        if not next(count):
            raise BadInput("no steps cost less")
        return find(packing, budget)

    monkeypatch.setattr(Packing, "find_form", fail_once)
    tally = clips.cache(videos, tmp_path / "cache", **WISHES)
    assert (tally.failed, tally.done) == (2, 2)  # the first clip has two names
    assert find_garbage(tmp_path / "cache") == []


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_measures_is_gone_on_with(videos, packed, tmp_path, monkeypatch):
    root = tmp_path / "cache"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(EntryFinisher, "finish", die)
        clips.cache(videos, root, **WISHES)
    (left,) = find_garbage(root)
    assert left.path.name.endswith(".floats.latent.partial")
    clips.cache(videos, root, **WISHES)
    remove_garbage(root, find_garbage(root))
    assert clips.objects(root) == clips.objects(packed)


def test_a_repacked_cache_is_what_a_run_that_packs_makes(root, packed):
    found = repack(root)
    assert [entry.error for entry in found] == [""] * 3
    assert all(entry.bytes < entry.bytes_before and entry.notices for entry in found)
    assert clips.objects(root) == clips.objects(packed) and said(root) == said(packed)
    assert repack(root) == []
    (other, *_) = repack(root, Budget(0.3))
    assert "which has lost something already" in other.error


def test_entries_of_a_shard_are_packed_as_well(root, packed):
    pack_all(Store(root), Sharding("tar"))
    repack(root, sharding=Sharding("tar"))
    remove_garbage(root, find_garbage(root))
    assert latents(LatentDataset(root)) == latents(LatentDataset(packed))
    assert list(verify(root)) == [None] * 3


class Killed(BaseException):
    """In the place of a kill −9."""


def die(*_: object) -> None:
    raise Killed


WORST = "before the old file goes"  # when there are two entries of one clip
DEATHS = {
    "while it is measured": (InBudget, "find_form"),
    "before the new one was read again": (repacking, "check_repacked"),
    "before the rows": (Manifest, "replace_rows"),
    WORST: (EntryRepacker, "_remove"),
}


@pytest.mark.parametrize(
    "death", [pytest.param(death, marks=pytest.mark.slow) for death in DEATHS if death != WORST] + [WORST]
)
def test_a_repack_that_is_killed_loses_nothing_and_is_gone_on_with(root, packed, death, monkeypatch):
    sources = {row.source for row in clips.rows(root)}
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(*DEATHS[death], die)
        repack(root)
    manifest = open_manifest(root)
    assert {row.source for row in manifest.rows() if manifest.is_present(row)} == sources
    assert all(finding is None for finding in verify(root))
    repack(root)
    remove_garbage(root, find_garbage(root))
    assert clips.objects(root) == clips.objects(packed) and said(root) == said(packed)


@pytest.mark.parametrize("measure", [False, True])
def test_without_its_source_an_entry_is_packed_by_what_it_keeps_or_by_a_bound(tmp_path, measure):
    clip, root = clips.write_clip(tmp_path / "a.avi", 0), tmp_path / "cache"
    clips.cache(clip, root, measure=measure)
    clip.unlink()
    assert [entry.error for entry in repack(root)] == [""]
    (row,) = clips.rows(root)
    assert row.price["against"] == (BY_FILE if measure else BY_BOUND)


def write_tar(path: Path, *clips_inside: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        for clip in clips_inside:
            tar.add(clip, clip.name)
    return path


def test_a_member_of_a_tar_is_measured_against_wherever_it_lies_in_it_now(videos, tmp_path):
    tar, root = write_tar(tmp_path / "clips.tar", videos / "b.avi"), tmp_path / "cache"
    clips.cache(tar, root)
    write_tar(tar, videos / "off.avi", videos / "b.avi")
    assert [entry.error for entry in repack(root, Budget(step=0.01))] == [""]
    assert [row.price["against"] for row in clips.rows(root)] == [BY_SOURCE]


def test_a_source_that_has_changed_is_not_measured_against(tmp_path):
    clip, root = clips.write_clip(tmp_path / "a.avi", 0), tmp_path / "cache"
    clips.cache(clip, root)
    clips.write_clip(clip, 1)
    repack(root)
    assert clips.rows(root)[0].price["against"] == BY_BOUND


def test_what_has_lost_something_is_left_as_it_is(videos, tmp_path):
    clips.cache(videos / "b.avi", tmp_path / "cache", store="int8")
    before = clips.objects(tmp_path / "cache")
    (told,) = repack(tmp_path / "cache")
    assert "stored as int8" in told.error and clips.objects(tmp_path / "cache") == before


def test_the_command_line_packs_and_repacks(videos, root, tmp_path, capsys):
    words = ["--store", "packed", "--max-drop", "0.2dB"]
    made = ["cache", str(videos / "b.avi"), "-o", str(tmp_path / "new"), "--model", "toy", "--device", "cpu"]
    assert app.run([*made, *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measured_s"] > 0
    assert app.run([*made, *words, "--dry-run"]) == 0
    capsys.readouterr()
    assert app.run(["repack", str(root), *words, "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["repacked"] == 3 and "dB against the source" in told.err
    assert app.run(["repack", str(root), *words, "--source", str(videos / "b.avi")]) == 2
    assert app.run([*made, "--store", "int8", "--max-drop", "0.2dB"]) == 2
