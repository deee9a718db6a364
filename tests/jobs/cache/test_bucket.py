"""Caches in object stores: the same entries and rows as on a disk, whatever goes wrong on the way."""

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from helpers import cache_clips as clips
from helpers.buckets import new_bucket, read_all

from vidlatent.engine.load import load_model
from vidlatent.errors import BadInput, OutOfResources, UsageError
from vidlatent.io.sources import patience
from vidlatent.jobs.cache import bucket, compact, leases, parts
from vidlatent.jobs.cache.bucket import open_home
from vidlatent.jobs.cache.gc import find_garbage
from vidlatent.jobs.cache.manifest import DONE, Manifest, ManifestRow
from vidlatent.jobs.cache.packer import Packer, pack_all
from vidlatent.jobs.cache.repack import repack_cache
from vidlatent.jobs.cache.run import open_run
from vidlatent.jobs.cache.scan import scan
from vidlatent.jobs.cache.shards import Sharding
from vidlatent.jobs.cache.status import describe_cache
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.summary import summarise
from vidlatent.jobs.cache.tally import NoProgress
from vidlatent.jobs.cache.verify import find_wrong_records, verify
from vidlatent.jobs.repack import RepackOptions
from vidlatent.jobs.report.cache_page import write_page

NOWHERE = Path("/nowhere")


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Clips that are old enough to be remembered by the index, however soon they are cached."""
    folder = clips.write_clips(tmp_path_factory.mktemp("videos"), 3)
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))
    return folder


@pytest.fixture(scope="module")
def disk(videos, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("disk") / "cache"
    clips.cache(videos, root)
    return root


@pytest.fixture(scope="module")
def filled(videos) -> dict[str, bytes]:
    """What lies in a bucket once the clips were cached there."""
    clips.cache(videos, f"{new_bucket('filled')}/cache")
    return read_all("memory://filled")


@pytest.fixture(autouse=True)
def be_another_process(monkeypatch):
    """Whoever opens the cache anew finds nothing of it on this machine. Nobody waits before asking again."""
    monkeypatch.setattr(patience, "WAITS_S", (0, 0, 0))
    monkeypatch.setattr(bucket.BucketHome, "poll_s", 0.02)
    open_home.cache_clear()
    return open_home.cache_clear


@pytest.fixture
def root() -> str:
    return f"{new_bucket()}/cache"


@pytest.fixture
def full(root, filled) -> str:
    """A cache of the clips, to be changed."""
    for name, data in filled.items():
        fsspec.filesystem("memory").pipe_file(f"/cached/{name}", data)
    return root


def entries(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("objects/*/*.latent")}


def objects(root: str) -> dict[str, bytes]:
    return {name: data for name, data in read_all(root).items() if name.startswith("objects/")}


def test_entries_and_rows_are_those_of_a_disk(videos, disk, full):
    assert objects(full) == entries(disk)
    assert clips.truth(full) == clips.truth(disk)
    before = read_all(full)
    again = clips.cache(videos, full)
    assert (again.reused, again.notices) == (3, [])
    assert read_all(full) == before  # nothing is written where there is nothing new, and no claim stays
    kinds = {name.partition("/")[0] for name in before}
    assert kinds == {"cache.json", "recipes", "manifest", "index", "objects"}


class Weather:
    """Faults of a store: of every call of a method the first ones fail, each in a way of its own."""

    def __init__(self, monkeypatch, **faults: list[str]) -> None:
        self.left = faults
        for name in faults:
            monkeypatch.setattr(MemoryFileSystem, name, self._spoil(name, getattr(MemoryFileSystem, name)))

    def _spoil(self, name, method):
        def call(fs, *args, **kwargs):
            fault = self.left[name].pop(0) if self.left[name] else ""
            if fault == "503":
                raise OSError("503 Slow Down")
            if fault == "hang":
                raise TimeoutError("nothing came")
            found = method(fs, *args, **kwargs)
            if fault == "no answer":
                raise ConnectionResetError("the answer was lost")
            return found[: len(found) // 2] if fault == "short" else found

        return call


def test_a_store_that_fails_now_and_then_gets_the_same_entries_and_rows(
    videos, disk, root, monkeypatch, be_another_process
):
    faults = {
        "put_file": ["503", "no answer", "", "", "hang"],
        "pipe_file": ["no answer", "503", "", "no answer"],
        "ls": ["hang", "", "503"],
        "info": ["", "", "", "503", "", "hang"],
        "rm_file": ["no answer", "503"],
        "get_file": ["503", "hang"],
        "cat_file": ["short", "503"],
    }
    weather = Weather(monkeypatch, **faults)
    assert clips.cache(videos, root).done == 3
    assert objects(root) == entries(disk)
    be_another_process()
    assert clips.truth(root) == clips.truth(disk)
    assert list(verify(root)) == [None] * 3
    assert not any(weather.left.values())


def test_a_store_that_stays_away_ends_the_run(videos, root, monkeypatch):
    Weather(monkeypatch, put_file=["", "", *["503"] * 4])
    with pytest.raises(OutOfResources, match=r"memory://cached/cache/.*cannot be written.*4 times"):
        clips.cache(videos, root)


def test_what_a_killed_run_has_put_is_taken_over_claims_and_entries_without_rows(
    videos, disk, full, monkeypatch
):
    fs = fsspec.filesystem("memory")
    fs.rm("/cached/cache/manifest", recursive=True)  # rows that waited to be put
    lost = sorted(objects(full))[0]
    fs.rm_file(f"/cached/cache/{lost}")
    key = Path(lost).stem
    fs.pipe_file(f"/cached/cache/claims/{key}", b"process 1 on nowhere\n")
    monkeypatch.setattr(leases, "LEFT_S", 0.5)
    waited_for = []
    monkeypatch.setattr(NoProgress, "update", lambda _, tally: waited_for.append(tally.waiting))
    tally = clips.cache(videos, full)
    assert (tally.done, tally.reused) == (1, 2)
    assert any("which process 1 on nowhere is making" in text for text in waited_for)
    assert objects(full) == entries(disk) and clips.truth(full) == clips.truth(disk)
    assert not read_all(full, "claims")


def test_a_part_is_put_once_it_has_many_rows_or_the_one_before_is_some_time_ago(root, monkeypatch):
    store = Store.create(root)
    monkeypatch.setattr(parts, "MOST_LINES", 3)
    with closing(Manifest(store)) as manifest:
        for number in range(4):
            manifest.add(ManifestRow(f"/{number}", "failed"))
        assert [data.count(b"\n") for data in read_all(root, "manifest").values()] == [3]
        monkeypatch.setattr(parts, "PART_S", 0.0)
        manifest.add(ManifestRow("/4", "failed"))
        assert [data.count(b"\n") for data in read_all(root, "manifest").values()] == [3, 2]
        manifest.add(ManifestRow("/5", "failed"))
    assert len(read_all(root, "manifest")) == 3 and len(clips.rows(root)) == 6


def test_rows_are_put_before_a_process_that_is_never_closed_is_done(videos, root):
    """So do actors of Ray end."""
    recipe = clips.recipe()
    Store.create(root)
    opened = open_run(root, load_model("toy", "cpu"), recipe, clips.ONE)
    with opened as run:
        run.cache(list(scan([str(videos)], NOWHERE)))
        assert len(read_all(root, "manifest")) == len(read_all(root, "index")) == 1


def test_rows_of_another_process_are_seen_once_they_are_put(root, be_another_process):
    Store.create(root)
    mine = Manifest(Store.open(root))
    be_another_process()
    with closing(Manifest(Store.open(root))) as other:
        other.add(ManifestRow("/a", DONE, key="k", shape=(1, 2, 3, 4)))
        assert mine.refresh() == 0
    assert mine.refresh() == 1 and mine.find("k") is not None


def test_folded_journals_say_the_same_to_old_readers_and_new_ones(full, disk, be_another_process):
    old = Manifest(Store.open(full))
    be_another_process()
    folded = compact.compact(full)
    assert [str(one.path) for one in folded] == [
        f"{full}/{folder}/snapshot-000001.sqlite" for folder in ("manifest", "index")
    ]
    names = [name for name in read_all(full) if name.endswith((".jsonl", ".sqlite"))]
    assert sum("/folded/" in name for name in names) == 2 and len(names) == 4
    with closing(Manifest(Store.open(full))) as manifest:
        manifest.add(ManifestRow("/new", "failed"))
    old.refresh()
    be_another_process()
    assert clips.truth(full)[1:] == clips.truth(disk)  # "/new" comes first
    assert [row.source for row in old.rows()] == [row.source for row in clips.rows(full)]
    assert not list(find_wrong_records(full))
    assert [one.records for one in compact.compact(full)] == [4]


def test_a_journal_that_is_put_away_between_listing_and_fetching_is_in_a_snapshot(
    full, monkeypatch, be_another_process
):
    get, away = MemoryFileSystem.get_file, [True]

    def fold_first(fs, path, *args, **more) -> None:
        if away and "/manifest/" in path and away.pop():
            monkeypatch.setattr(MemoryFileSystem, "get_file", get)
            be_another_process()
            compact.compact(full)
        get(fs, path, *args, **more)

    store = Store.open(full)
    monkeypatch.setattr(MemoryFileSystem, "get_file", fold_first)
    assert len(list(Manifest(store).rows())) == 3 and not away


def test_a_store_that_lists_what_is_not_there_is_an_error(full, monkeypatch):
    def lose(*_: object, **__: object) -> None:
        raise FileNotFoundError("gone")

    store = Store.open(full)
    monkeypatch.setattr(MemoryFileSystem, "get_file", lose)
    with pytest.raises(OutOfResources, match=rf"{full}/manifest: lists objects that are not there"):
        Manifest(store)


class Killed(BaseException):
    """As abrupt as a kill, as far as our own code can see."""


@pytest.mark.parametrize("step", [(Manifest, "add_packed"), (Packer, "_remove")], ids=["rows", "removal"])
def test_a_kill_while_entries_are_packed_loses_and_doubles_nothing(
    full, monkeypatch, be_another_process, step
):
    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(*step, die)
        pack_all(Store.open(full), Sharding("tar"))
    assert len(objects(full)) == 3
    (shard,) = (name for name in read_all(full, "shards") if name.endswith(".tar"))
    be_another_process()
    monkeypatch.setattr(leases, "LEFT_S", 0.0)
    pack_all(Store.open(full), Sharding("tar"))
    assert not objects(full) and [n for n in read_all(full, "shards") if n.endswith(".tar")] == [shard]
    be_another_process()
    assert list(verify(full)) == [None] * 3


def test_of_two_who_fold_at_once_one_gives_way(full, monkeypatch, be_another_process):
    real = compact.fold

    def fold_too(folder, kind):
        folded = real(folder, kind)
        if folded is not None and folder.name == "manifest":
            fsspec.filesystem("memory").pipe_file(
                f"/cached/cache/manifest/{folded.path.name}", folded.path.read_bytes()
            )
        return folded

    monkeypatch.setattr(compact, "fold", fold_too)
    assert [one.path.url.rpartition("/")[0] for one in compact.compact(full)] == [f"{full}/index"]
    assert len(clips.rows(full)) == 3


def test_what_is_damaged_or_missing_is_found_and_made_again(videos, disk, full, be_another_process):
    fs = fsspec.filesystem("memory")
    torn, lost, changed = sorted(objects(full))
    fs.pipe_file(f"/cached/cache/{torn}", objects(full)[torn][:-1])
    fs.pipe_file(f"/cached/cache/{changed}", objects(full)[changed][:-1] + b"\xff")
    fs.rm_file(f"/cached/cache/{lost}")
    said = {finding.what for finding in verify(full)}
    size = len(objects(full)[torn]) + 1
    assert f"{full}/{torn}: expected {size} bytes, found {size - 1}" in said
    assert f"{full}/{lost}: missing" in said
    assert len(said) == 3 and any(text.startswith(f"{full}/{changed}: ") for text in said)
    be_another_process()
    assert describe_cache(full)["cache"] == full
    assert clips.cache(videos, full).done == 3
    assert objects(full) == entries(disk)


def test_where_nothing_may_be_put_damage_is_told_all_the_same(full, monkeypatch):
    name = sorted(objects(full))[0]
    fsspec.filesystem("memory").pipe_file(f"/cached/cache/{name}", b"torn")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(MemoryFileSystem, "put_file", refuse)
    found = [finding for finding in verify(full) if finding is not None]
    assert [(finding.what.partition(": ")[0], finding.recorded) for finding in found] == [
        (f"{full}/{name}", False)
    ]


def test_of_a_folder_that_is_no_cache_nothing_is_fetched(monkeypatch):
    fsspec.filesystem("memory").pipe_file(f"{new_bucket()}/videos/a.mp4", b"large")
    Weather(monkeypatch, get_file=["503"] * 9)
    with pytest.raises(BadInput, match="memory://cached/videos: not a latent cache"):
        Store.open("memory://cached/videos")
    with pytest.raises(UsageError, match=r"holds other things \(a.mp4\)"):
        Store.create("memory://cached/videos")


def test_a_page_of_a_cache_in_a_store_shows_its_thumbnails(videos, root, tmp_path, be_another_process):
    clips.cache(videos / "clip0.avi", root, replace(clips.ONE, thumbnails=2))
    be_another_process()
    write_page(summarise(root), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<title>cache: a cache of latents" in page and "data:image/jpeg" in page


def test_what_works_on_disks_alone_says_so(full):
    with pytest.raises(UsageError, match=rf"{full}: in a store, and `cache gc` is for disks"):
        find_garbage(full)
    with pytest.raises(UsageError, match=rf"{full}: in a store, and `repack` is for disks"):
        list(repack_cache(full, RepackOptions(store="int8")))


def test_a_store_without_conditional_puts_asks_for_parts(videos, disk, full, monkeypatch):
    put = MemoryFileSystem.pipe_file
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda fs, path, data, mode="": put(fs, path, data))
    fs = fsspec.filesystem("memory")
    name = sorted(objects(full))[0]
    fs.rm_file(f"/cached/cache/{name}")
    fs.pipe_file(f"/cached/cache/claims/{Path(name).stem}", b"somebody")
    tally = clips.cache(videos, full)
    assert tally.done == 1 and "this store has no conditional puts" in tally.notices[0]
    assert objects(full) == entries(disk)


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("https://a.org/cache", "no store that a cache can lie in"),
        ("memory://cached", r"holds other things \(a.mp4\), and is no cache"),
    ],
)
def test_where_no_cache_can_be_it_is_said(address, what):
    new_bucket()
    fsspec.filesystem("memory").pipe_file("/cached/a.mp4", b"")
    with pytest.raises(UsageError, match=what):
        Store.create(address)
