"""Rows and journals: what was written is read, whatever happened to the writer."""

import json
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidlatent.jobs.cache.journal import JournalWriter, count_torn_lines, read_records
from vidlatent.jobs.cache.manifest import DAMAGED, DONE, FAILED, SKIPPED, Manifest, ManifestRow
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
