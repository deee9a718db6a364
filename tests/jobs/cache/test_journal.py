"""Journals: whatever happens in the middle of a line, other lines are whole."""

import errno
import os
from pathlib import Path

import pytest

from vidlatent.errors import OutOfResources
from vidlatent.jobs.cache.journal import (
    JournalReader,
    JournalWriter,
    WrongLine,
    count_torn_lines,
    find_wrong_lines,
    read_records,
)


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


def test_a_journal_that_has_not_grown_is_not_opened_again(tmp_path, monkeypatch):
    """Runs ask every few seconds, and on a network disk it is opening that asks the server."""
    journal, reader = JournalWriter(tmp_path), JournalReader(tmp_path)
    journal.append({"n": 1})
    opened, real = [], Path.open
    monkeypatch.setattr(Path, "open", lambda self, *args: (opened.append(self), real(self, *args))[1])
    for _ in range(2):
        list(reader.read_new())
    assert len(opened) == 1


def test_a_line_that_nobody_can_use_is_named_by_its_number_and_counted(tmp_path):
    def parse(record: dict) -> None:
        if record != {"n": 1}:
            raise ValueError(f"n: expected 1, got {record['n']}")

    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2}\n7\n{"n": 1}')
    found = [WrongLine(path, n, why) for n, why in ((2, "n: expected 1, got 2"), (3, "no JSON object"))]
    assert [*find_wrong_lines(tmp_path, parse)] == [*found, WrongLine(path, 4, "cut short")]
    assert count_torn_lines(tmp_path, parse) == 3


@pytest.mark.parametrize(("host", "part"), [("a-1.b" + "x" * 40, "a1b" + "x" * 21), ("--", "host")])
def test_a_journal_is_named_by_when_where_and_by_whom_it_is_written(tmp_path, monkeypatch, host, part):
    monkeypatch.setattr("socket.gethostname", lambda: host)
    monkeypatch.setattr("time.time_ns", lambda: 7)
    JournalWriter(tmp_path).append({"n": 1, "m": 2})
    (path,) = tmp_path.iterdir()
    assert path.name == f"{7:019d}-{part}-{os.getpid()}.jsonl"
    assert path.read_text() == '{"m": 2, "n": 1}\n'
    assert path.stat().st_mode & 0o444 == 0o444, "others read it"


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts open files")
def test_a_journal_whose_name_is_not_on_disk_is_an_error_and_stays_not_open(tmp_path, monkeypatch):
    def refuse(folder: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(folder))

    monkeypatch.setattr("vidlatent.jobs.cache.journal.sync_folder", refuse)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OutOfResources, match="Input/output error"):
        JournalWriter(tmp_path).append({"n": 1})
    assert len(os.listdir("/proc/self/fd")) == before


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
