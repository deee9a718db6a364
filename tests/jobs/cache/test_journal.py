"""Journals: whatever happens in the middle of a line, other lines are whole."""

import errno
import os

import pytest

from vidlatent.errors import OutOfResources
from vidlatent.jobs.cache.journal import JournalReader, JournalWriter, find_wrong_lines, read_records


def test_a_write_that_is_cut_short_goes_on(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:5]))
    JournalWriter(tmp_path).append({"text": "x" * 50}, {"text": "y"})
    assert [record["text"] for record in read_records(tmp_path)] == ["x" * 50, "y"]


def test_each_writer_has_a_file_of_its_own_also_at_the_same_moment(tmp_path, monkeypatch):
    ticks = iter([1, 1, 2])
    monkeypatch.setattr("vidlatent.jobs.cache.journal.time.time_ns", lambda: next(ticks))
    for n in range(2):  # two containers may have the same host name and process number, too
        JournalWriter(tmp_path).append({"n": n})
    assert [record["n"] for record in read_records(tmp_path)] == [0, 1]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "disk full"), (errno.EIO, "Input/output error"), (errno.ESTALE, "cannot be written")],
)
def test_after_a_write_that_failed_half_way_the_next_row_is_whole(tmp_path, monkeypatch, code, words):
    """Half a row stood in the file, and the row after it was joined to it and lost."""
    real, calls = os.write, []

    def fail_half_way(descriptor: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) == 2:
            raise OSError(code, os.strerror(code))
        return real(descriptor, data[: len(data) // 2] if len(calls) == 1 else data)

    monkeypatch.setattr(os, "write", fail_half_way)
    journal = JournalWriter(tmp_path)
    with pytest.raises(OutOfResources, match=words) as e:
        journal.append({"n": 1})
    assert e.value.exit_code == 5
    journal.append({"n": 2})
    assert [record["n"] for record in read_records(tmp_path)] == [2]
    assert [line.why for line in find_wrong_lines(tmp_path, dict)] == ["cut short"]


def test_what_cannot_be_read_is_said(tmp_path, monkeypatch):
    JournalWriter(tmp_path).append({"n": 1})
    (path,) = tmp_path.iterdir()

    def refuse(self, *args, **kwargs):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(self))

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(OutOfResources, match=r"cannot be read \(Too many open files\)"):
        list(read_records(tmp_path))


def test_each_call_gives_what_is_new_and_half_a_line_once_it_is_whole(tmp_path):
    journal, reader = JournalWriter(tmp_path), JournalReader(tmp_path)
    journal.append({"n": 1})
    assert [record["n"] for record in reader.read_new()] == [1]
    (path,) = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(b'{"n": ')
        file.flush()
        assert not list(reader.read_new())
        file.write(b"2}\n")
    journal.append({"n": 3})
    assert [record["n"] for record in reader.read_new()] == [2, 3] and not list(reader.read_new())


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts open files")
def test_a_journal_that_is_closed_is_closed_and_a_later_line_begins_a_new_one(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    journal = JournalWriter(tmp_path)
    for n in range(2):
        journal.append({"n": n})
        journal.close()
        journal.close()
    assert len(os.listdir("/proc/self/fd")) == before and len(list(tmp_path.iterdir())) == 2
    assert [record["n"] for record in read_records(tmp_path)] == [0, 1]
