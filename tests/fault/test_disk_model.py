"""The disk that forgets forgets: what was not flushed may go, names apart from bytes."""

import os
import random
from pathlib import Path

import pytest
from helpers.disk_calls import Call
from helpers.disk_model import Disk, save

CREATE = os.O_CREAT | os.O_WRONLY


def call(kind: str, path: str = "", other: str = "", file: int = -1, at: int = 0, data: bytes = b"") -> Call:
    return Call(kind, max(file, 0), file, at, path, other, data)


@pytest.fixture
def left(tmp_path):
    """What is left of a folder with a file "old" after some calls, for each seed (None: the least)."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root/old").write_bytes(b"old")

    def after(*calls: Call, seeds: tuple = (None,)) -> list[dict[str, bytes]]:
        disk = Disk(Path("/d"), tmp_path / "root")
        for one in calls:
            disk.do(one)
        found = []
        for seed in seeds:
            place = tmp_path / f"left {len(os.listdir(tmp_path))}"
            save(disk.top, place, None if seed is None else random.Random(seed))
            found.append({str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()})
        return found

    return after


OPENED = call("open", "/d/new", file=3, at=CREATE)
WRITTEN = call("write", file=3, data=b"data")
FLUSHED = call("fsync", file=3)
FOLDER = (call("open", "/d", file=4), call("fsync", file=4))


def test_nothing_is_left_of_a_file_that_was_only_written(left):
    assert left(OPENED, WRITTEN) == [{"old": b"old"}]


def test_bytes_that_were_flushed_have_no_name_until_their_folder_is(left):
    assert left(OPENED, WRITTEN, FLUSHED) == [{"old": b"old"}]
    assert left(OPENED, WRITTEN, FLUSHED, *FOLDER) == [{"old": b"old", "new": b"data"}]


def test_a_name_may_be_there_without_its_bytes(left):
    assert left(OPENED, WRITTEN, *FOLDER) == [{"old": b"old", "new": b""}]


def test_a_rename_that_was_not_flushed_leaves_the_old_file_or_the_new(left):
    renamed = call("rename", "/d/new", "/d/old")
    states = left(OPENED, WRITTEN, FLUSHED, *FOLDER, renamed, seeds=tuple(range(20)))
    assert {state["old"] for state in states} == {b"old", b"data"}


def test_later_writes_may_be_there_without_earlier_ones(left):
    more = call("write", file=3, at=4, data=b"more")
    states = left(OPENED, WRITTEN, more, *FOLDER, seeds=tuple(range(40)))
    assert {state["new"] for state in states} == {b"", b"data", b"\0\0\0\0more", b"datamore"}


def test_a_folder_that_was_not_flushed_takes_what_is_in_it(left):
    made = call("mkdir", "/d/sub")
    inside = call("open", "/d/sub/new", file=3, at=CREATE)
    below = (call("open", "/d/sub", file=5), call("fsync", file=5))
    assert left(made, inside, WRITTEN, FLUSHED, *below) == [{"old": b"old"}]
    assert left(made, inside, WRITTEN, FLUSHED, *below, *FOLDER) == [{"old": b"old", "sub/new": b"data"}]
