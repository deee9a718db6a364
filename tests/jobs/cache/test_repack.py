"""Repacking a cache: another form under the key of that form, nothing lost whenever somebody is killed."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from helpers import cache_clips as clips
from helpers import warm
from helpers.paths import ROOT

from vidlatent.cli import app
from vidlatent.errors import OutOfResources, UsageError
from vidlatent.io.latent.reader import open_latent
from vidlatent.jobs.cache import repack as repacking
from vidlatent.jobs.cache.claims import Claim
from vidlatent.jobs.cache.gc import find_garbage, remove_garbage
from vidlatent.jobs.cache.manifest import Manifest, open_manifest
from vidlatent.jobs.cache.options import RunOptions
from vidlatent.jobs.cache.packer import pack_all
from vidlatent.jobs.cache.repack import EntryRepacker, repack_cache
from vidlatent.jobs.cache.shards import Sharding
from vidlatent.jobs.cache.status import describe_cache
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.verify import verify
from vidlatent.jobs.readback.dataset import LatentDataset
from vidlatent.jobs.repack import RepackOptions

INT8 = RepackOptions("int8")


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Two clips, one of them under two names, and one whose frames are off the grid."""
    folder = tmp_path_factory.mktemp("repack") / "videos"
    for name, seed, frames in (("a", 0, 9), ("b", 1, 5), ("again", 0, 9), ("off", 2, 7)):
        clips.write_clip(folder / f"{name}.avi", seed, frames=frames)
    clips.cache(folder, folder.parent / "floats", RunOptions(workers=1, thumbnails=1))
    clips.cache(folder, folder.parent / "int8", store="int8")
    return folder


@pytest.fixture
def root(videos, tmp_path) -> Path:
    """A cache of floats, to be repacked."""
    return Path(shutil.copytree(videos.parent / "floats", tmp_path / "cache"))


def said(root: Path) -> set[tuple]:
    """What the rows say of the entries of a cache."""
    names = ("source", "span", "status", "key", "recipe", "shape", "dtype", "form", "bytes", "checksum")
    return {tuple(getattr(row, name) for name in names) for row in clips.rows(root)}


def latents(root: Path) -> dict[str, list]:
    return {item["source"]: item["latents"].tolist() for item in LatentDataset(root)}


def assert_is_the_int8_cache(root: Path, videos: Path) -> None:
    """Byte for byte what a run with --store int8 makes, as nothing was lost on the way there."""
    assert clips.objects(root) == clips.objects(videos.parent / "int8")
    assert said(root) == said(videos.parent / "int8")


def test_a_repacked_cache_is_what_a_run_in_that_form_makes(root, videos):
    found = list(repack_cache(root, INT8))
    assert [entry.error for entry in found] == [""] * 3
    assert all(entry.bytes < entry.bytes_before for entry in found)
    assert_is_the_int8_cache(root, videos)
    assert list(verify(root)) == [None] * 3


def test_such_a_run_goes_on_with_it(root, videos):
    list(repack_cache(root, INT8))
    tally = clips.cache(videos, root, store="int8")
    assert (tally.done, tally.reused) == (0, 4)


def test_a_second_repack_has_nothing_to_do(root):
    list(repack_cache(root, INT8))
    before = clips.objects(root)
    assert list(repack_cache(root, INT8)) == []
    assert clips.objects(root) == before


def test_status_counts_each_clip_once(root):
    list(repack_cache(root, INT8))
    found = describe_cache(root)
    assert (found["clips"], found["done"], found["entries"], found["missing"]) == (4, 4, 3, 0)
    assert found["stored"] == {"int8": 3} and len(found["recipes"]) == 1
    assert find_garbage(root) == []


def test_thumbnails_come_along(root):
    list(repack_cache(root, INT8))
    store = Store(root)
    assert all(store.thumbnail_path(row.key).is_file() for row in clips.rows(root))
    assert len(list(store.thumbnails.rglob("*.jpg"))) == 3


def test_packed_planes_lose_nothing_and_can_be_unpacked(root, videos):
    before, files = latents(root), clips.objects(root)
    list(repack_cache(root, RepackOptions(pack=True)))
    assert latents(root) == before
    assert describe_cache(root)["stored"] == {"fp32 --pack": 3}
    list(repack_cache(root, RepackOptions("fp32")))
    assert latents(root) == before and len(clips.objects(root)) == len(files)


class Killed(BaseException):
    """In the place of a kill −9."""


def die(*_: object) -> None:
    raise Killed


DEATHS = {
    "before the rows": (Manifest, "replace_rows", die),
    "before the old file goes": (EntryRepacker, "_remove", die),
    "when half of the rows are written": (
        Manifest,
        "replace_rows",
        lambda self, old, new: die(self._append(new)),
    ),
    "while a file is written": (repacking, "check_repacked", die),
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_repack_that_is_killed_loses_nothing_and_is_gone_on_with(root, videos, death, monkeypatch):
    sources = set(latents(root))
    owner, name, instead = DEATHS[death]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, name, instead)
        list(repack_cache(root, INT8))
    held = {source for recipe in describe_cache(root)["recipes"] for source in of_recipe(root, recipe)}
    assert held == sources
    assert all(finding is None for finding in verify(root))
    list(repack_cache(root, INT8))
    remove_garbage(root, find_garbage(root))
    assert_is_the_int8_cache(root, videos)


def of_recipe(root: Path, recipe: str) -> set[str]:
    return {row.source for row in open_manifest(root).present_rows(recipe)}


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.005, 0.02, 0.05])
def test_kill_9_while_entries_are_written_loses_nothing(root, videos, delay):
    """So long after the first claim shows that the work has begun; then a run that nobody disturbs."""
    sources, claims = set(latents(root)), root / "claims"
    shutil.rmtree(claims, ignore_errors=True)
    words = ["-m", "vidlatent", "repack", root, "--store", "int8"]
    process = warm.Process(words, cwd=ROOT, stderr=subprocess.DEVNULL)
    while process.poll() is None and not claims.exists():
        time.sleep(0.001)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    manifest = open_manifest(root)
    assert {row.source for row in manifest.rows() if manifest.is_present(row)} == sources
    assert all(finding is None for finding in verify(root))
    list(repack_cache(root, INT8))
    remove_garbage(root, find_garbage(root))
    assert_is_the_int8_cache(root, videos)


def test_what_was_replaced_and_is_left_says_so(root):
    """`cache gc` said that no row of the manifest knows it."""
    before = clips.objects(root)
    list(repack_cache(root, INT8))
    left = [name for name in before if not (root / name).exists() and name.endswith(".latent")]
    (root / left[0]).write_bytes(b"left")
    assert [item.why for item in find_garbage(root)] == ["an entry in another form has replaced it"]


def test_a_recipe_that_the_cache_does_not_know_is_refused(root):
    with pytest.raises(UsageError, match="has nothing of recipe foo"):
        list(repack_cache(root, INT8, recipe="foo"))


@pytest.mark.parametrize("kind", ["tar", "safetensors"])
def test_entries_in_shards_are_repacked_and_their_shards_go(root, kind, videos):
    pack_all(Store(root), Sharding(kind))
    old = {path.name for path in Store(root).shards.iterdir()}
    list(repack_cache(root, INT8, sharding=Sharding(kind)))
    assert {item.path.name for item in find_garbage(root)} == old
    remove_garbage(root, find_garbage(root))
    assert latents(root) == latents(videos.parent / "int8")
    assert list(verify(root)) == [None] * 3


def test_an_entry_that_is_damaged_stays_and_is_told_of(root):
    store, first = Store(root), clips.rows(root)[0]
    path = store.entry_path(first.key)
    raw = bytearray(path.read_bytes())
    raw[5000] ^= 1
    path.write_bytes(raw)
    wrong = [entry for entry in repack_cache(root, INT8) if entry.error]
    assert len(wrong) == 1 and "does not match its checksum" in wrong[0].error
    assert path.read_bytes() == raw


def test_an_entry_that_another_process_works_on_stays(root):
    first = clips.rows(root)[0]
    claim = Claim.take(Store(root).claims / first.key)
    with claim:
        found = list(repack_cache(root, INT8))
    assert [("another process" in entry.error) for entry in found].count(True) == 1
    assert Store(root).entry_path(first.key).exists()


def test_an_entry_that_another_process_has_made_anew_meanwhile_is_replaced_for_good(root, videos):
    """The row of its replacement came before that of its making, so it counted as there, and was missing."""
    clips.cache(videos, root, store="bf16")
    floats, half = (
        next(row.recipe for row in clips.rows(root) if row.dtype == dtype) for dtype in ("F32", "BF16")
    )
    slow = repack_cache(root, RepackOptions(pack=True), half)
    next(slow)
    assert not [entry.error for entry in repack_cache(root, RepackOptions("bf16"), floats) if entry.error]
    assert not [entry.error for entry in slow if entry.error]
    assert all(found is None for found in verify(root))


def test_an_entry_that_is_there_in_that_form_stays_where_the_disk_is_full(root, videos, file_size_limit):
    """It was removed: what failed was taken for the first of that form."""
    clips.cache(videos, root, store="int8")
    with file_size_limit(8 << 10), pytest.raises(OutOfResources):
        list(repack_cache(root, INT8))
    assert all(found is None for found in verify(root))


def test_a_cache_that_may_not_be_written_is_said_once(root, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UsageError, match=r"manifest: cannot be written \(Permission denied\)"):
        list(repack_cache(root, INT8))


def test_what_was_lost_is_not_claimed_to_be_there(root):
    list(repack_cache(root, INT8))
    (error, *_) = [entry.error for entry in repack_cache(root, RepackOptions("bf16"))]
    assert "stored as int8, of which bf16 cannot be made again" in error


def test_a_header_tells_of_what_was_lost_before(root):
    """Codes of fp32, as it was computed, are those of a run; those of bf16 may differ by one."""
    list(repack_cache(root, RepackOptions("bf16")))
    list(repack_cache(root, INT8))
    row = clips.rows(root)[0]
    with open_latent(Store(root).entry_path(row.key)) as reader:
        assert reader.header.extra["repacked_from"] == "bf16"
    assert row.notices[-2:] == ("repacked from fp32", "repacked from bf16")


def test_a_key_that_does_not_follow_from_its_recipe_stays(root):
    for path in (root / "recipes").glob("*.json"):
        told = json.loads(path.read_text())
        path.write_text(json.dumps(told | {"code": 0}))
    errors = [entry.error for entry in repack_cache(root, INT8)]
    assert all("its key does not follow from recipe" in error for error in errors) and len(errors) == 3


def test_clips_with_a_size_a_rate_and_a_span_are_found_by_their_keys(videos, tmp_path):
    wishes = {
        "buckets": ((32, 16),),
        "fps": 5,
        "posterior": "sample",
        "frames_rule": "pad",
        "first_frame": True,
    }
    clips.cache(videos / "off.avi", tmp_path / "cache", start=0, **wishes)
    before = LatentDataset(tmp_path / "cache")[0]
    assert [entry.error for entry in repack_cache(tmp_path / "cache", INT8)] == [""]
    again = LatentDataset(tmp_path / "cache")[0]
    for name in ("latents", "first_frame"):
        most = before[name].abs().max()
        assert (again[name].float() - before[name]).abs().max() <= most * 0.009
    assert clips.cache(videos / "off.avi", tmp_path / "cache", start=0, store="int8", **wishes).reused == 1


def test_the_command_line_says_how_to_go_on(root, capsys):
    assert app.run(["repack", str(root), "--store", "int8", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["repacked"] == 3
    assert "cache them with --store int8" in told.err
    assert app.run(["repack", str(root), "--store", "fp32"]) == 1
    assert "of which fp32 cannot be made again\n  hint: cache it again with" in capsys.readouterr().err
    assert app.run(["repack", str(root), "--store", "int8", "-o", "x.latent"]) == 2


def test_a_form_must_be_named():
    with pytest.raises(UsageError, match="store: in which form"):
        RepackOptions()


def test_a_file_is_repacked_with_all_that_is_in_it(root, tmp_path, capsys):
    source, target = next((root / "objects").rglob("*.latent")), tmp_path / "out.latent"
    assert app.run(["repack", str(source), "-o", str(target), "--pack"]) == 0
    assert "fp32 → fp32 --pack" in capsys.readouterr().err
    with open_latent(source) as old, open_latent(target) as new:
        assert torch.equal(old.read(0, old.frames), new.read(0, new.frames))
        assert (old.clock.pts.tolist(), old.header.source) == (new.clock.pts.tolist(), new.header.source)
    assert app.run(["repack", str(target), "-o", str(tmp_path / "back.latent"), "--store", "fp32"]) == 0
    assert (tmp_path / "back.latent").read_bytes() == source.read_bytes()
