"""Rows and journals: what was written is read, whatever happened to the writer."""

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidlatent.errors import UsageError
from vidlatent.jobs.cache.fold import fold
from vidlatent.jobs.cache.journal import JournalWriter, count_torn_lines, read_records
from vidlatent.jobs.cache.manifest import (
    DAMAGED,
    DONE,
    FAILED,
    REPLACED,
    ROWS,
    SKIPPED,
    Manifest,
    ManifestRow,
    choose_recipe,
)
from vidlatent.jobs.cache.snapshot import Snapshot
from vidlatent.jobs.cache.store import Store

rows_of_anything = st.builds(
    ManifestRow,
    source=st.text(min_size=1),
    status=st.sampled_from([DONE, FAILED]),
    key=st.text("0123456789abcdef", max_size=64),
    span=st.tuples(*[st.none() | st.text()] * 2, st.none() | st.integers(1)),
    shape=st.lists(st.integers(1), min_size=4, max_size=4).map(tuple),
    error=st.none() | st.text(),
    notices=st.lists(st.text()).map(tuple),
    facts=st.dictionaries(st.text(), st.integers() | st.text() | st.none()),
)


@settings(deadline=None)
@given(rows_of_anything)
def test_a_row_survives_its_line(row):
    assert ManifestRow.parse(json.loads(json.dumps(asdict(row)))) == row


def test_file_names_that_are_no_text_survive(tmp_path):
    name = b"/clips/\xff\xfe.mp4".decode("utf-8", "surrogateescape")
    journal = JournalWriter(tmp_path)
    journal.append({"source": name})
    assert [record["source"] for record in read_records(tmp_path)] == [name]


@settings(deadline=None)
@given(data=st.binary(min_size=1, max_size=40), cut=st.integers(0, 30))
def test_torn_lines_are_left_out_and_counted(tmp_path_factory, data, cut):
    """A crash leaves the beginning of a line, a disk whatever it likes: neither ends in a newline."""
    folder = tmp_path_factory.mktemp("journal")
    line = json.dumps({"n": 1, "text": "x" * 30}).encode()
    torn = line[:-cut] if cut else data.replace(b"\n", b" ")
    (folder / "a.jsonl").write_bytes(line + b"\n" + torn)
    JournalWriter(folder).append({"n": 2})
    assert sorted(record["n"] for record in read_records(folder)) == [1, 2]
    assert count_torn_lines(folder) == 1


def test_rows_of_several_writers_are_one_manifest(tmp_path):
    store = Store.create(tmp_path / "cache")
    first, second = Manifest(store), Manifest(store)
    first.add(ManifestRow("a", FAILED, key="1", error="boom"))
    second.add(ManifestRow("b", DONE, key="2"))
    assert [(row.source, row.status) for row in Manifest(store).rows()] == [("a", FAILED), ("b", DONE)]


def test_a_later_attempt_counts_whatever_the_clocks_say(tmp_path, monkeypatch):
    store = Store.create(tmp_path / "cache")
    monkeypatch.setattr("vidlatent.jobs.cache.manifest.time.time", lambda: 2e9)
    Manifest(store).add(ManifestRow("a", FAILED, key="1", error="boom"))
    monkeypatch.setattr("vidlatent.jobs.cache.manifest.time.time", lambda: 1e9)
    Manifest(store).add(ManifestRow("a", DONE, key="1"))
    merged = Manifest(store)
    assert merged.find("1").status == DONE and [row.status for row in merged.rows()] == [DONE]
    Manifest(store).add(ManifestRow("a", DAMAGED, key="1", error="bit rot"))
    assert Manifest(store).find("1").status == DAMAGED


def test_a_higher_attempt_counts_also_where_it_is_read_first(tmp_path):
    """Journals are read by their names: an older writer's later row may come before a younger one's."""
    store = Store.create(tmp_path / "cache")
    store.manifest.mkdir()
    old, new = (
        asdict(ManifestRow("a", status, key="1", attempt=n)) for status, n in ((DONE, 2), (FAILED, 1))
    )
    for name, row in (("1-old", old), ("2-young", new)):
        (store.manifest / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    merged = Manifest(store)
    assert merged.find("1").status == DONE and [row.status for row in merged.rows()] == [DONE]


def test_of_one_attempt_what_is_done_counts_and_then_the_latest(tmp_path):
    store = Store.create(tmp_path / "cache")
    store.manifest.mkdir()
    rows = [(DONE, 1.0, 7), (FAILED, 9.0, 0), (DONE, 2.0, 8), (SKIPPED, 9.0, 0)]
    lines = (asdict(ManifestRow("a", status, key="1", at=at, bytes=size)) for status, at, size in rows)
    (store.manifest / "x.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert Manifest(store).find("1").bytes == 8


def test_what_is_known_is_not_written_again(tmp_path):
    store = Store.create(tmp_path / "cache")
    for _ in range(3):
        Manifest(store).add(ManifestRow("a", DONE, key="1", bytes=7))
    assert len(list(read_records(store.manifest))) == 1


@pytest.mark.parametrize(
    "shape", [[5], [5, 4, 2], [5, 4, 2, 0], [5, 4, 2, -1], [5, 4, 2, True], ["5", 4, 2, 2]]
)
def test_a_finished_row_of_a_shape_that_no_latents_have_is_none(shape):
    record = json.loads(json.dumps(asdict(ManifestRow("a", DONE, key="1")))) | {"shape": shape}
    with pytest.raises(ValueError, match="shape: expected"):
        ManifestRow.parse(record)


@pytest.mark.parametrize("status", [FAILED, DAMAGED, SKIPPED, REPLACED])
def test_a_row_that_is_not_finished_may_have_any_shape(status):
    record = asdict(ManifestRow("a", status, key="1")) | {"shape": [5, 1]}
    assert ManifestRow.parse(record).shape == (5, 1)


def test_what_the_row_of_an_older_version_does_not_say_is_nothing():
    empty = {"key": "", "recipe": "", "source_sha256": "", "dtype": "", "form": "", "model": "", "shard": ""}
    counts = ("frames", "cut", "first_frame", "width", "height", "bytes", "offset", "threads")
    assert asdict(ManifestRow.parse({"source": "a", "status": DONE})) == {
        **{"source": "a", "status": DONE, "span": (None, None, None), "shape": (), "notices": ()},
        **{**empty, "checksum": "", "error": None, "read": {}, "facts": {}, "price": {}},
        **{**dict.fromkeys(counts, 0), "seconds": 0.0, "at": 0.0, "attempt": 1},
    }


def test_only_a_video_that_is_skipped_is_left_out():
    rows = [ManifestRow("a", status, source_sha256=sha) for status in (SKIPPED, FAILED) for sha in ("ab", "")]
    assert [row.is_left_out for row in rows] == [True, False, False, False]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("status", (DAMAGED, DONE, FAILED)),
        *((name, ("a", "b", "c")) for name in ("key", "error", "checksum", "shard")),
        *((name, (1, 2, 3)) for name in ("offset", "first_frame")),
        ("facts", ({}, {"size": 1}, {"size": 2})),
    ],
)
def test_rows_that_differ_in_what_counts_do_not_say_the_same(name, values):
    less, row, more = (replace(ManifestRow("a", DONE), **{name: value}) for value in values)
    assert row.says_the_same_as(replace(row, at=9.0, seconds=3.0, attempt=7))
    assert not row.says_the_same_as(less) and not row.says_the_same_as(more)


@pytest.mark.parametrize("status", [FAILED, DAMAGED, REPLACED])
def test_of_one_attempt_what_was_tried_counts_before_what_was_skipped(tmp_path, status):
    store = Store.create(tmp_path / "cache")
    store.manifest.mkdir()
    rows = [ManifestRow("a", status, key="1", at=1.0), ManifestRow("a", SKIPPED, key="1", at=9.0)]
    (store.manifest / "x.jsonl").write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))
    assert Manifest(store).find("1").status == status


@pytest.fixture
def store(tmp_path) -> Store:
    return Store.create(tmp_path / "cache")


def test_what_is_written_is_dated_to_the_millisecond_and_its_attempt_follows_clip_and_entry(
    store, monkeypatch
):
    monkeypatch.setattr("vidlatent.jobs.cache.manifest.time.time", lambda: 1.23456)
    manifest = Manifest(store)
    steps = [("a", FAILED, "1"), ("a", FAILED, "2"), ("b", DONE, "2"), ("b", FAILED, ""), ("c", DONE, "1")]
    rows = [manifest.add(ManifestRow(source, status, key=key)) for source, status, key in steps]
    assert [row.attempt for row in rows] == [1, 2, 3, 4, 2] and {row.at for row in rows} == {1.235}


def test_rows_of_others_are_read_once_and_counted(store):
    reader, writer = Manifest(store), Manifest(store)
    writer.add(ManifestRow("a", DONE, key="1"))
    writer.add(ManifestRow("b", DONE, key="2"))
    assert (reader.refresh(), reader.refresh()) == (2, 0)
    assert fold(store.manifest, ROWS).records == 2
    assert (reader.refresh(), reader.refresh()) == (1, 0)  # where it is all read from is news, once
    assert [row.key for row in reader.rows()] == ["1", "2"]


def test_a_row_that_is_younger_than_the_snapshot_counts(store):
    Manifest(store).add(ManifestRow("a", DONE, key="1"))
    fold(store.manifest, ROWS)
    manifest = Manifest(store)
    manifest.add(ManifestRow("a", FAILED, key="1", error="boom"))
    manifest.add(ManifestRow("b", DONE, key="2"))
    for found in (manifest, Manifest(store)):
        assert found.find("1").status == FAILED and found.find("2").status == DONE
        assert (
            [row.status for row in found.rows()] == [row.status for row in found.entries()] == [FAILED, DONE]
        )
        assert found.count_at_most == 3  # a is in both


def test_one_search_answers_all_that_is_asked_of_an_entry(store, monkeypatch):
    Manifest(store).add(ManifestRow("a", DONE, key="1"))
    fold(store.manifest, ROWS)
    manifest, real, searches = Manifest(store), Snapshot.find_key, []
    monkeypatch.setattr(Snapshot, "find_key", lambda *args: (searches.append(args), real(*args))[1])
    assert manifest.find("1").source == "a" and manifest.find_shard("1") is None
    assert len(searches) == 1


def test_a_manifest_that_is_closed_writes_into_a_new_journal(store):
    manifest = Manifest(store)
    for name in "ab":
        manifest.add(ManifestRow(name, DONE, key=name))
        manifest.close()
    assert len(list(store.manifest.iterdir())) == 2


def test_an_entry_that_another_has_replaced_is_no_row_and_is_found_where_it_lies(store):
    manifest = Manifest(store)
    packed, loose = (manifest.add(ManifestRow(name, DONE, key=name, recipe="old")) for name in ("a", "b"))
    manifest.add_packed({"a": 64}, "shard-1.tar")
    new = [replace(row, key=f"{row.key}2", recipe="new") for row in (packed, loose)]
    manifest.replace_rows([packed, loose], new)
    for found in (manifest, Manifest(store)):
        assert [(row.source, row.key) for row in found.rows()] == [("a", "a2"), ("b", "b2")]
        assert [found.find(key).status for key in ("a", "b", "a2")] == [REPLACED, REPLACED, DONE]
        assert [(found.find(key).shard, found.find(key).offset) for key in "ab"] == [
            ("shard-1.tar", 64),
            ("", 0),
        ]
        assert found.find_shard("a") is None


def test_damage_is_written_down_of_the_place_where_the_entry_lies(store):
    manifest = Manifest(store)
    rows = [manifest.add(ManifestRow(name, DONE, key=name)) for name in ("a", "b")]
    manifest.add_packed({"a": 64}, "shard-1.tar")
    for row in rows:
        manifest.add_damaged(row, "a disk that lies")
    found = [Manifest(store).find(key) for key in ("a", "b")]
    assert [(row.status, row.shard, row.offset) for row in found] == [
        (DAMAGED, "shard-1.tar", 64),
        (DAMAGED, "", 0),
    ]
    assert {row.error for row in found} == {"a disk that lies"}


@pytest.mark.parametrize("now", [{}, {"key": "0"}, {"key": "2"}, {"status": FAILED}, {"status": DAMAGED}])
def test_an_entry_of_several_clips_is_told_of_the_first_by_name_where_that_still_has_it(store, now):
    manifest = Manifest(store)
    for name in "bca":
        manifest.add(ManifestRow(name, DONE, key="1", facts={"of": name}))
    if now:
        manifest.add(replace(ManifestRow("a", DONE, key="1"), **now))
    row = ManifestRow("c", DONE, key="1", bytes=7, facts={"of": "c"})
    told = manifest.retell_of_first_clip(row)
    assert told == (row if now else replace(row, source="a", facts={"of": "a"}))


def test_an_entry_is_there_where_its_last_row_is_done_and_as_many_bytes_are(store):
    manifest = Manifest(store)
    row = manifest.add(ManifestRow("a", DONE, key="ab", bytes=3))
    assert not manifest.is_present(row)
    path = store.entry_path("ab")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"xyz")
    assert manifest.is_present(row) and manifest.place(row).path == path
    assert not manifest.is_present(replace(row, bytes=4))
    assert not any(manifest.is_present(replace(row, status=status)) for status in (DAMAGED, FAILED, SKIPPED))
    manifest.add_packed({"ab": 2}, "shard-1.tar")
    assert manifest.place(row).path == path, "a file of its own comes first"
    path.unlink()
    assert manifest.place(row).path == store.shards / "shard-1.tar" and manifest.place(row).part == (2, 3)


def test_entries_of_one_recipe_are_given_and_of_several_none_before_one_is_named(store):
    manifest = Manifest(store)
    for name in "xyz":
        path = store.entry_path(name * 4)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"1")
        manifest.add(ManifestRow("a", DONE, key=name * 4, recipe=name, bytes=1))
    assert [row.recipe for row in manifest.present_rows("y")] == ["y"]
    with pytest.raises(UsageError, match="holds 3 recipes"):
        manifest.present_rows()


def test_a_recipe_is_chosen_by_its_name_or_as_the_only_one(tmp_path):
    chosen = [choose_recipe(tmp_path, *asked) for asked in (({"x"}, None), (set(), None), ({"x", "y"}, "y"))]
    assert chosen == ["x", None, "y"]
    with pytest.raises(UsageError, match="holds 2 recipes"):
        choose_recipe(tmp_path, {"x", "y"}, None)
    with pytest.raises(UsageError, match="has nothing of recipe z"):
        choose_recipe(tmp_path, {"x", "y"}, "z")
