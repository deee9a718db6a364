"""What goes is what nobody needs, at the moment in which it goes."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import cache_clips as clips

from vidlatent.jobs.cache import gc, maker
from vidlatent.jobs.cache.claims import Claim
from vidlatent.jobs.cache.gc import find_garbage, remove_garbage
from vidlatent.jobs.cache.manifest import DAMAGED, DONE, FAILED, Manifest, ManifestRow, open_manifest
from vidlatent.jobs.cache.packer import PACK, pack_all
from vidlatent.jobs.cache.shards import Sharding
from vidlatent.jobs.cache.store import Store


def put(path: Path, size: int = 5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def test_bytes_and_reasons_are_said(root):
    orphan = put(Store(root).entry_path("f" * 64), 7)
    partial = put(orphan.with_name(".abc.latent.partial"), 3)
    found = {item.path: (item.why, item.bytes) for item in find_garbage(root)}
    assert found == {
        orphan: ("no row of the manifest knows it", 7),
        partial: ("left by a run that was killed", 3),
    }
    items = find_garbage(root)
    assert remove_garbage(root, items) == 10 and not find_garbage(root)
    assert remove_garbage(root, items) == 0, "what has gone frees nothing"


def test_what_another_process_makes_or_packs_stays(root):
    orphan = put(Store(root).entry_path("f" * 64))
    partial = put(Store(root).entry_path("a" * 64).with_name(f".{'a' * 64}.latent.partial"))
    shard = put(root / "shards/shard-0123456789abcdef.tar")
    items = find_garbage(root)
    assert {item.path for item in items} == {orphan, partial, shard}
    claims = [Claim.take(root / "claims" / name) for name in ("f" * 64, "a" * 64, PACK)]
    assert remove_garbage(root, items) == 0
    assert all(path.exists() for path in (orphan, partial, shard))
    for claim in claims:
        claim.release()
    assert remove_garbage(root, items) == 15


def test_a_claim_that_is_held_is_no_leftover(root):
    stale = put(root / "claims/abc")
    with Claim.take(root / "claims/def"):
        items = find_garbage(root)
        assert [item.path for item in items] == [stale]
        assert remove_garbage(root, items) == items[0].bytes > 0
    assert not stale.exists()


@pytest.mark.parametrize("status", [FAILED, DAMAGED])
def test_the_entry_and_the_thumbnails_of_a_row_that_is_not_done_any_more_are_of_no_use(root, status):
    row, other = clips.rows(root)
    store = Store(root)
    thumbnails = [put(store.thumbnail_path(key)) for key in (row.key, other.key, "f" * 64)]
    assert {item.path for item in find_garbage(root)} == {thumbnails[2]}
    Manifest(store).add(replace(row, status=status, error="gone", attempt=row.attempt + 1))
    found = {item.path: item.why for item in find_garbage(root)}
    assert found == {
        **dict.fromkeys([thumbnails[0], store.entry_path(row.key)], f"of an entry that is {status}"),
        thumbnails[2]: "no row of the manifest knows it",
    }


def test_what_is_superseded_goes_where_that_is_asked_for_and_nowhere_else(root):
    row = clips.rows(root)[0]
    store = Store(root)
    old = {
        store.entry_path(row.key),
        put(store.thumbnail_path(row.key), store.entry_path(row.key).stat().st_size),
    }
    new = replace(row, key="f" * 64, attempt=row.attempt + 1)
    put(store.entry_path(new.key))
    Manifest(store).add(new)
    items = find_garbage(root, superseded=True)
    assert {item.path for item in items} == old and {item.why for item in items} == {gc._CHANGED}
    assert not find_garbage(root) and remove_garbage(root, items) == 0
    assert remove_garbage(root, items, superseded=True) == 2 * items[0].bytes
    assert not any(path.exists() for path in old)


def test_what_is_needed_by_the_time_its_claim_is_held_stays(root, monkeypatch):
    """Between the look and the removal another process wrote the row of just that entry."""
    key = "f" * 64
    orphan = put(Store(root).entry_path(key))
    items, take = find_garbage(root), Claim.take

    def take_late(path: Path) -> Claim | None:
        Manifest(Store(root)).add(ManifestRow("late.avi", DONE, key=key, bytes=5))
        return take(path)

    monkeypatch.setattr(gc.Claim, "take", take_late)
    assert [item.path for item in items] == [orphan] and remove_garbage(root, items) == 0
    assert orphan.exists()


def test_a_shard_that_is_needed_by_then_stays(root, monkeypatch):
    items = [gc.Garbage(put(root / "shards/shard-0123456789abcdef.tar"), "unknown", 5)]
    row, take = clips.rows(root)[0], Claim.take

    def take_late(path: Path) -> Claim | None:
        Manifest(Store(root)).add_packed({row.key: 0}, items[0].path.name)
        return take(path)

    monkeypatch.setattr(gc.Claim, "take", take_late)
    assert remove_garbage(root, items) == 0 and items[0].path.exists()


@pytest.mark.parametrize("name", ["objects/ab", "shards", "claims"])
def test_no_link_is_followed_out_of_a_cache(root, tmp_path, name):
    """A folder of the cache that is a link elsewhere: what lies there is not the cache's."""
    elsewhere = tmp_path / "elsewhere"
    precious = [
        put(elsewhere / f)
        for f in ("abc.latent", ".abc.latent.partial", "shard-1.tar", ".shard-1.tar.partial", "mine")
    ]
    shutil.rmtree(root / name, ignore_errors=True)
    (root / name).symlink_to(elsewhere)
    items = find_garbage(root)
    assert not [item for item in items if item.path.parent == root / name]
    made_up = [gc.Garbage(root / name / path.name, "left by a run that was killed", 5) for path in precious]
    assert remove_garbage(root, [*items, *made_up]) == sum(item.bytes for item in items)
    assert all(path.exists() for path in precious)


def test_a_link_in_place_of_a_file_is_left_alone(root, tmp_path):
    precious = put(tmp_path / "precious.latent")
    link = Store(root).entry_path("f" * 64)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(precious)
    assert not find_garbage(root) and os.path.lexists(link) and precious.exists()


def test_a_superseded_shard_goes_only_with_its_last_entry(root):
    pack_all(Store(root), Sharding("tar"))
    (shard,) = root.glob("shards/*.tar")
    rows = clips.rows(root)
    for number, row in enumerate(rows):
        new = replace(row, key=f"{number}" * 64, attempt=row.attempt + 1, shard="", offset=0)
        Manifest(Store(root)).add(new)  # its source has changed, and was made again
        found = {item.path for item in find_garbage(root, superseded=True)}
        assert (shard in found) == (number == len(rows) - 1)
        assert shard not in {item.path for item in find_garbage(root)}
    assert open_manifest(root).find(rows[0].key).status == DONE


@pytest.mark.parametrize("frames", [9, 7])
def test_an_entry_that_was_made_a_moment_ago_and_has_no_row_yet_stays(tmp_path, monkeypatch, frames):
    """Seven frames are off the grid: such an entry gets another name than the first that was claimed."""
    clips.write_clip(tmp_path / "videos/a.avi", 1, frames=frames)
    root, real, looks = tmp_path / "cache", maker.make_done_row, []

    def collect(*args: object) -> ManifestRow:
        items = find_garbage(root)
        looks.append((len(items), remove_garbage(root, items)))
        return real(*args)

    monkeypatch.setattr(maker, "make_done_row", collect)
    assert clips.cache(tmp_path / "videos", root).done == 1
    assert looks == [(1, 0)] and [row.status for row in clips.rows(root)] == [DONE]
    assert not find_garbage(root) and len(clips.objects(root)) == 1
