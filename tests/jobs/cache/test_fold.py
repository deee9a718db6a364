"""Journals that were folded into a snapshot say what they said before, whoever works meanwhile."""

import json
import os
import shutil
from contextlib import closing
from dataclasses import asdict, replace

import pytest
from helpers import cache_clips as clips
from hypothesis import given, settings
from hypothesis import strategies as st

from vidlatent.errors import BadInput, OutOfResources, UsageError
from vidlatent.jobs.cache import compact as compacting
from vidlatent.jobs.cache import manifest as manifests
from vidlatent.jobs.cache.claims import Claim
from vidlatent.jobs.cache.compact import FOLD, compact, fold_if_grown
from vidlatent.jobs.cache.fold import fold
from vidlatent.jobs.cache.gc import find_garbage, remove_garbage
from vidlatent.jobs.cache.index import LOOKS
from vidlatent.jobs.cache.journal import JournalWriter
from vidlatent.jobs.cache.manifest import DAMAGED, DONE, FAILED, ROWS, SKIPPED, Manifest, ManifestRow
from vidlatent.jobs.cache.snapshot import Snapshot, list_snapshots, number_of, open_snapshot, path_of
from vidlatent.jobs.cache.status import describe_cache
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.verify import find_wrong_records

KEYS = ("", "aa", "aaaaaaaa1", "aaaaaaaa2")  # the last two have one number
rows = st.builds(
    ManifestRow,
    source=st.sampled_from(["/a", "/b", "/ü", "/\udcff'\""]),
    status=st.sampled_from([DONE, FAILED, SKIPPED, DAMAGED]),
    key=st.sampled_from(KEYS),
    recipe=st.sampled_from(["r", "s"]),
    span=st.sampled_from([(None, None, None), ("1/2", None, 5)]),
    shard=st.sampled_from(["", "shard-1.tar"]),
    offset=st.integers(0, 3),
    error=st.none() | st.just("\ud800\0"),
    notices=st.sampled_from([(), ("n",)]),
    facts=st.sampled_from([{}, {"caption": "ü"}]),
    attempt=st.integers(1, 3),
    at=st.sampled_from([1.0, 2.0]),
)


def write(folder, rows_of_one, more=()):
    """A journal of rows as they are; `more` are fields that a later release has added."""
    journal = JournalWriter(folder)
    for row in rows_of_one:
        if row.status != DONE or row.key:
            journal.append(asdict(row) | dict(more))
    journal.close()


def tell(store) -> dict:
    """All that a manifest says."""
    manifest = Manifest(store)
    known = list(manifest.rows())
    return {
        "rows": known,
        "entries": list(manifest.entries()),
        "found": [manifest.find(key) for key in KEYS],
        "shards": [manifest.find_shard(key) for key in KEYS],
        "first": [manifest.retell_of_first_clip(row) for row in known],
        "attempts": [manifest._next_attempt(row) for row in known],
    }


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(rows, max_size=5), max_size=4))
def test_a_manifest_says_the_same_whenever_its_journals_were_folded(tmp_path_factory, journals):
    place = tmp_path_factory.mktemp("fold")
    plain, folded = Store(place / "plain"), Store(place / "folded")
    number = iter(range(100))
    for rows_of_one in journals:
        written = [replace(row, at=row.at + next(number) / 100) for row in rows_of_one]  # no two are equal
        write(plain.manifest, written)
        write(folded.manifest, written)
        fold(folded.manifest, ROWS)
        assert tell(folded) == tell(plain)
    if any(row.status != DONE or row.key for written in journals for row in written):
        assert not list(folded.manifest.glob("*.jsonl")) and list_snapshots(folded.manifest)
        open_snapshot(folded.manifest, ROWS).check()


def test_a_cache_of_before_is_grown_and_read_without_a_conversion(made, tmp_path):
    root = shutil.copytree(made / "cache", tmp_path / "cache")
    before, status = clips.rows(root), describe_cache(root)
    assert compact(root)[0].added == 2 and not compact(root)
    assert clips.rows(root) == before and describe_cache(root) == status
    assert json.loads((root / "cache.json").read_text())["version"] == 2  # for those who know no snapshots
    clips.write_clip(tmp_path / "more/clip7.avi", 7)
    assert clips.cache(made / "videos", root).reused == 2 and not list(root.glob("manifest/*.jsonl"))
    assert clips.cache(tmp_path / "more", root).done == 1
    assert len(clips.rows(root)) == 3 and len(list(root.glob("manifest/*.jsonl"))) == 1


def test_a_marker_that_is_lost_still_keeps_those_away_who_know_no_snapshots(root):
    compact(root)
    (root / "cache.json").unlink()
    Store.create(root)
    assert json.loads((root / "cache.json").read_text())["version"] == 2


def test_a_journal_that_is_being_written_is_folded_and_stays(tmp_path):
    store = Store.create(tmp_path / "cache")
    writer = Manifest(store)
    writer.add(ManifestRow("a", DONE, key="1"))
    assert fold(store.manifest, ROWS).journals == 0
    writer.add(ManifestRow("b", DONE, key="2"))
    assert [row.source for row in Manifest(store).rows()] == ["a", "b"]
    writer.close()
    assert fold(store.manifest, ROWS).journals == 1
    assert [row.source for row in Manifest(store).rows()] == ["a", "b"]


def test_who_reads_rows_once_more_finds_those_that_were_folded_since(tmp_path):
    store = Store.create(tmp_path / "cache")
    reader, writer = Manifest(store), Manifest(store)
    for source in ("a", "b"):
        writer.add(ManifestRow(source, DONE, key=source))
        writer.close()
        fold(store.manifest, ROWS)
        assert reader.refresh() and reader.find(source).source == source


def test_a_line_is_written_again_where_its_journal_was_put_away_meanwhile(tmp_path):
    """On a disk that knows no locks, nobody sees that the journal is at work."""
    store = Store.create(tmp_path / "cache")
    writer = Manifest(store)
    writer.add(ManifestRow("a", DONE, key="1"))
    (path,) = store.manifest.iterdir()
    path.rename(tmp_path / path.name)
    writer.add(ManifestRow("b", DONE, key="2"))
    assert [row.source for row in Manifest(store).rows()] == ["b"]


def test_a_journal_with_half_a_line_stays_so_that_it_can_be_named(tmp_path):
    store = Store.create(tmp_path / "cache")
    write(store.manifest, [ManifestRow("a", DONE, key="1")])
    (path,) = store.manifest.iterdir()
    with path.open("ab") as file:
        file.write(b'{"source": "b", ')
    assert fold(store.manifest, ROWS).journals == 0
    assert fold(store.manifest, ROWS) is None
    assert [why.rpartition(": ")[2] for why in find_wrong_records(store.root)] == ["cut short"]
    assert [row.source for row in Manifest(store).rows()] == ["a"]


def test_lines_that_are_no_rows_are_named_after_their_journal_was_put_away(tmp_path):
    store = Store.create(tmp_path / "cache")
    write(store.manifest, [ManifestRow("a", DONE, key="1"), ManifestRow("b", "odd")])
    assert fold(store.manifest, ROWS).journals == 1
    assert [": line 2: status: expected" in why for why in find_wrong_records(store.root)] == [True]


def test_what_a_later_release_has_added_to_rows_is_carried_along(tmp_path, monkeypatch):
    store, row = Store.create(tmp_path / "cache"), ManifestRow("a", DONE, key="1")
    write(store.manifest, [row], more={"moods": ["blue"]})
    fold(store.manifest, ROWS)
    write(store.manifest, [replace(row, source="b", key="2")])
    fold(store.manifest, ROWS)  # by a release that does not know the field
    later = replace(ROWS, fields=(*ROWS.fields, "moods"), parse=lambda record: record, name=str)
    assert [record.get("moods") for _, record, _ in open_snapshot(store.manifest, later).by_name()] == [
        ["blue"],
        None,
    ]


def test_a_snapshot_of_a_release_with_other_fields_is_read_by_their_names(tmp_path):
    store, row = Store.create(tmp_path / "cache"), ManifestRow("a", DONE, key="1", bytes=7)
    order = tuple(reversed(ROWS.fields))
    other = replace(ROWS, fields=order, pack=lambda row: [asdict(row)[name] for name in order])
    write(store.manifest, [row])
    fold(store.manifest, replace(other, unpack=lambda values: row))
    assert list(Manifest(store).rows()) == [row]
    write(store.manifest, [replace(row, source="b")])
    fold(store.manifest, ROWS)
    assert [found.bytes for found in Manifest(store).rows()] == [7, 7]


def test_a_snapshot_that_says_something_else_is_named_and_nothing_of_it_is_removed(root):
    compact(root)
    (path,) = root.glob("manifest/snapshot-*")
    path.write_bytes(path.read_bytes().replace(b"clip1.avi", b"clip3.avi"))
    assert any(str(path) in why and "damaged" in why for why in find_wrong_records(root))
    assert not [item for item in find_garbage(root) if item.path.is_relative_to(root / "manifest")]


def test_a_file_that_is_no_snapshot_is_refused_with_the_way_back(root):
    before = clips.rows(root)
    compact(root)
    (path,) = root.glob("manifest/snapshot-*")
    path.write_bytes(b"no database at all")
    with pytest.raises(BadInput, match=r"snapshot-000001.sqlite: damaged .*\nhint: remove it, and move"):
        Manifest(Store(root))
    path.unlink()  # as the hint says
    for journal in (root / "manifest/folded").iterdir():
        journal.rename(root / "manifest" / journal.name)
    assert clips.rows(root) == before


def test_gc_removes_journals_and_snapshots_that_a_later_snapshot_holds(root):
    before = clips.rows(root)
    compact(root)
    with closing(Manifest(Store(root))) as manifest:
        manifest.add(replace(before[0], status=FAILED, error="gone"))
    compact(root)
    items = find_garbage(root)
    assert sorted(item.path.name for item in items if item.path.suffix == ".sqlite") == [
        "snapshot-000001.sqlite"
    ]
    assert sum(item.path.suffix == ".jsonl" for item in items) >= 2
    assert remove_garbage(root, items) and not find_garbage(root)
    assert [row.status for row in clips.rows(root)] == [FAILED, DONE]


def test_only_one_process_compacts_a_cache(root):
    with Claim.take(root / "claims" / FOLD), pytest.raises(UsageError, match="another process is compacting"):
        compact(root)
    with Claim.take(root / "claims" / FOLD):
        assert fold_if_grown(Store(root), 0) is None and not list(root.glob("manifest/snapshot-*"))
    fold_if_grown(Store(root), 1 << 30)
    assert not list(root.glob("manifest/snapshot-*"))
    fold_if_grown(Store(root), 0)
    assert list(root.glob("manifest/snapshot-*"))


def test_a_run_compacts_where_journals_have_grown(made, root, monkeypatch):
    monkeypatch.setattr("vidlatent.jobs.cache.run.LARGE_BYTES", 0)
    assert clips.cache(made / "videos", root).reused == 2
    assert not list(root.glob("manifest/*.jsonl")) and number_of(next(root.glob("manifest/snap*"))) == 1


def test_without_locks_a_run_does_not_compact_by_itself(root, monkeypatch):
    monkeypatch.setattr("vidlatent.jobs.cache.claims.try_lock", lambda descriptor: True)
    fold_if_grown(Store(root), 0)
    assert not list(root.glob("manifest/snapshot-*"))


def test_a_run_whose_journals_cannot_be_compacted_says_it_and_goes_on(made, root, monkeypatch):
    def fail(store):
        raise OutOfResources("no room")

    monkeypatch.setattr(compacting, "_fold_all", fail)
    monkeypatch.setattr("vidlatent.jobs.cache.run.LARGE_BYTES", 0)
    tally = clips.cache(made / "videos", root)
    assert tally.reused == 2 and tally.notices == ["the journals were not compacted: no room"]


def test_what_was_seen_of_files_is_found_in_the_snapshot(made, root, monkeypatch):
    for path in (made / "videos").iterdir():
        os.utime(path, (1e9, 1e9))
    clips.cache(made / "videos", root)
    compact(root)
    assert open_snapshot(root / "index", LOOKS).count == 2
    monkeypatch.setattr("vidlatent.jobs.cache.index.Index.learn", lambda *_: pytest.fail("hashed again"))
    assert clips.cache(made / "videos", root).reused == 2


def test_two_names_of_one_number_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("vidlatent.jobs.cache.fold.hash_name", lambda name: 1)
    monkeypatch.setattr("vidlatent.jobs.cache.snapshot.hash_name", lambda name: 1)
    store = Store.create(tmp_path / "cache")
    write(store.manifest, [ManifestRow("a", FAILED), ManifestRow("b", SKIPPED)])
    fold(store.manifest, ROWS)
    found = Snapshot(ROWS, path_of(store.manifest, 1))
    assert [row.status for row in found.find_name(manifests.name_clip(("b", (None, None, None), "")))] == [
        SKIPPED
    ]
