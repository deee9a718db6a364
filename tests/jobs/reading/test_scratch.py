"""Copies of objects: fetched once, within a limit, and gone in the end."""

import os
import subprocess
import sys
import threading

import fsspec
import pytest

from vidlatent.errors import BadVideo, UsageError
from vidlatent.io.sources.disk import DiskSource
from vidlatent.io.sources.member import MemberSource
from vidlatent.io.sources.stored import StoredSource
from vidlatent.jobs.reading import scratch as module
from vidlatent.jobs.reading.ahead import map_ahead
from vidlatent.jobs.reading.scratch import Scratch

MEMORY = type(fsspec.filesystem("memory"))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def fetched(monkeypatch):
    """The names of all objects that were fetched."""
    names, real = [], MEMORY.get_file

    def get_file(self, name, path, **more):
        names.append(name.rpartition("/")[2])
        real(self, name, path, **more)

    monkeypatch.setattr(MEMORY, "get_file", get_file)
    return names


def put(name: str, data: bytes = b"0123456789") -> StoredSource:
    fsspec.filesystem("memory").pipe_file(f"/scratch/{name}", data)
    return StoredSource(f"memory://scratch/{name}")


def read(scratch: Scratch, source) -> bytes:
    with scratch.hold(source) as held, held.source.open() as file:
        return file.read()


def test_an_object_is_fetched_once_and_its_copy_goes_in_the_end(place, fetched):
    source = put("a.avi")
    with Scratch() as scratch:
        for _ in range(2):
            with scratch.hold(source) as held:
                assert held.source.path.suffix == ".avi" and held.source.name == source.name
                assert held.state == source.state()
        member = MemberSource(source, "a.avi::x", 2, 3)
        assert read(scratch, member) == b"234" and fetched == ["a.avi"]
        assert list(place.glob("vidlatent-scratch-*/*"))
    assert not list(place.iterdir())


def test_what_lies_on_a_disk_is_read_where_it_lies(place):
    source = DiskSource(place / "a.avi")
    with Scratch() as scratch, scratch.hold(source) as held:
        assert held.source is source and held.state is None
    assert not list(place.iterdir())


def test_copies_that_were_used_longest_ago_make_room(place, fetched):
    sources = [put(f"{n}.avi") for n in range(3)]
    with Scratch(25) as scratch:
        for source in sources:
            assert read(scratch, source) == b"0123456789"
        assert sum(path.stat().st_size for path in place.glob("*/*")) == 20
        read(scratch, sources[1])
        read(scratch, sources[0])
    assert fetched == ["0.avi", "1.avi", "2.avi", "0.avi"]


def test_what_is_being_read_stays_and_what_is_read_next_finds_room(fetched):
    """Or a run would wait for ever: for a clip whose room is held by clips that come after it."""
    first, second = put("1.avi"), put("2.avi")
    with Scratch(15) as scratch, scratch.hold(first) as held:
        assert read(scratch, second) == b"0123456789"
        assert held.source.path.exists()


def test_an_object_larger_than_all_copies_may_be_is_said_to_be():
    source = put("big.avi")
    with Scratch(9) as scratch, pytest.raises(BadVideo, match="has 10 bytes, all copies together may have 9"):
        read(scratch, source)


def test_what_is_needed_soon_is_fetched_ahead_where_there_is_room(place, fetched):
    sources = [put(f"{n}.avi") for n in range(3)]
    with Scratch(25) as scratch:
        for source in sources:
            scratch.begin(source)
        scratch._pool.shutdown()  # which waits for all three
        assert len(fetched) == 2 == len(list(place.glob("*/*.avi")))
    assert not list(place.iterdir())


def test_a_copy_that_could_not_be_had_is_asked_for_again_by_the_next(fetched):
    source = StoredSource("memory://scratch/late.avi")
    with Scratch() as scratch:
        with pytest.raises(BadVideo, match=r"late\.avi: no such object"):
            read(scratch, source)
        put("late.avi")
        assert read(scratch, source) == b"0123456789"


def test_many_who_hold_an_object_share_one_copy(fetched):
    source, found = put("a.avi"), []
    with Scratch() as scratch:
        threads = [threading.Thread(target=lambda: found.append(read(scratch, source))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [b"0123456789"] * 8 and fetched == ["a.avi"]


def test_a_kind_of_store_that_nobody_knows_ends_the_run():
    with Scratch() as scratch, pytest.raises(UsageError, match="no known kind of store"):
        read(scratch, StoredSource("ftp://host/a.avi"))


@pytest.mark.skipif(os.name != "posix", reason="folders are locked where they can be opened")
def test_the_copies_of_a_run_that_was_killed_are_removed_by_the_next(place, monkeypatch):
    monkeypatch.setattr(module, "_OLD_S", -1)
    left = place / "vidlatent-scratch-left"
    left.mkdir()
    (left / "0.avi").write_bytes(b"copy")
    code = (
        "import os, sys; from pathlib import Path\n"
        "held = os.open(sys.argv[1], os.O_RDONLY); import fcntl; fcntl.flock(held, fcntl.LOCK_EX)\n"
        "print('locked', flush=True); sys.stdin.read()"
    )
    used = place / "vidlatent-scratch-used"
    used.mkdir()
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code, used], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        with Scratch() as scratch:
            read(scratch, put("a.avi"))
            assert not left.exists() and used.exists()
        other.stdin.close()


def test_where_locks_say_nothing_no_copy_of_others_is_removed(place, monkeypatch):
    monkeypatch.setattr(module, "_OLD_S", -1)
    monkeypatch.setattr(module, "try_lock", lambda descriptor: True)
    used = place / "vidlatent-scratch-used"
    used.mkdir()
    with Scratch() as scratch:
        read(scratch, put("a.avi"))
    assert list(place.iterdir()) == [used]


def test_many_questions_are_answered_in_their_order_and_only_as_wanted():
    asked = []
    answers = map_ahead(lambda n: n * n, (asked.append(n) or n for n in range(10_000)))
    assert [next(answers) for _ in range(3)] == [0, 1, 4]
    answers.close()
    assert len(asked) < 100
