"""What is relied on is on disk before: in which order files and folders are flushed and named."""

import errno
import json
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers.recorder import Recorder

from vidlatent import durable
from vidlatent.durable import make_folder, sync_folder
from vidlatent.errors import OutOfResources
from vidlatent.files import replace_on_close, write_note
from vidlatent.io.read.source import Colour, Picture
from vidlatent.io.write.images import ImageSink
from vidlatent.jobs.cache.journal import JournalWriter
from vidlatent.jobs.cache.store import Store

SRGB = Colour("gbr", "pc", "iec61966-2-1", "bt709")
PICTURE = Picture(4, 4, Fraction(1), SRGB, 8, Fraction(1, 25), None)
pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks up names of open files")


@pytest.fixture
def recorder(monkeypatch) -> Recorder:
    return Recorder(monkeypatch)


def test_a_file_is_flushed_then_named_then_its_folder_is_flushed(tmp_path, recorder):
    with replace_on_close(tmp_path / "out") as partial:
        partial.write_bytes(b"new")
        assert not recorder.events
    assert recorder.events == [("fsync", ".out.partial"), ("rename", "out"), ("fsync", tmp_path.name)]


def test_a_note_is_as_durable_as_a_file_and_its_unfinished_name_is_nobody_elses(tmp_path, recorder):
    """Two containers may count their processes alike: the number of a process is no name of its own."""
    for text in ("old", "new"):
        write_note(tmp_path / "note", text)
    assert (tmp_path / "note").read_text() == "new" and os.listdir(tmp_path) == ["note"]
    kinds, names = zip(*recorder.events, strict=True)
    assert kinds == ("fsync", "rename", "fsync") * 2
    assert names[1:3] == ("note", tmp_path.name) and names[0] != names[3]


def test_each_folder_on_the_way_is_flushed_into_the_one_above(tmp_path, recorder):
    make_folder(tmp_path / "a/b/c")
    assert (tmp_path / "a/b/c").is_dir()
    assert recorder.events == [("fsync", tmp_path.name), ("fsync", "a"), ("fsync", "b")]


def test_a_folder_that_is_there_is_flushed_all_the_same(tmp_path, recorder):
    """Whoever made it may have been killed before it was flushed."""
    (tmp_path / "a").mkdir()
    make_folder(tmp_path / "a")
    assert recorder.events == [("fsync", tmp_path.name)]


def test_a_journal_is_flushed_with_its_name_before_a_row_counts(tmp_path, recorder):
    journal = JournalWriter(tmp_path / "manifest")
    journal.append({"n": 1})
    assert [name for _, name in recorder.events[:2]] == [tmp_path.name, "manifest"]
    assert [what for what, _ in recorder.events] == ["fsync"] * 3 and recorder.events[2][1].endswith(".jsonl")
    journal.append({"n": 2})
    assert recorder.events[3:] == recorder.events[2:3]


def test_a_journal_of_what_can_be_found_out_again_is_not_flushed(tmp_path, recorder):
    journal = JournalWriter(tmp_path / "index", durable=False)
    journal.append({"n": 1})
    assert not any(name.endswith(".jsonl") for _, name in recorder.events)


def test_a_new_cache_is_on_disk_before_anything_is_put_into_it(tmp_path, recorder):
    store = Store.create(tmp_path / "cache")
    names = [name for _, name in recorder.events]
    assert names[0] == tmp_path.name and names[2:] == ["cache.json", "cache"]
    del recorder.events[:]
    store.write_recipe("r", "{}")
    assert [name for _, name in recorder.events if not name.startswith(".")] == ["cache", "r.json", "recipes"]
    del recorder.events[:]
    store.write_recipe("r", "{}")
    assert not recorder.events and (tmp_path / "cache/recipes/r.json").read_text() == "{}\n"


def test_every_picture_of_a_folder_is_flushed_before_the_folder_has_its_name(tmp_path, recorder):
    with ImageSink(tmp_path / "frames", PICTURE, "png", False) as sink:
        for n in range(2):
            sink.write(np.zeros((4, 4, 3), np.uint8), n, 1)
        del recorder.events[:]
    names = ["000000.png", "000001.png", "timestamps.json"]
    flushed = [("fsync", name) for name in (*names, ".frames.partial")]
    assert recorder.events == [*flushed, ("rename", "frames"), ("fsync", tmp_path.name)]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_disk_that_flushes_no_folders_can_be_written(tmp_path, monkeypatch, code):
    real = os.fsync

    def refuse(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(durable.os, "fsync", refuse)
    sync_folder(tmp_path)
    write_note(tmp_path / "note", json.dumps(1))


def test_a_folder_that_cannot_be_flushed_is_said(tmp_path, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(durable.os, "fsync", fail)
    with pytest.raises(OutOfResources, match=r"note: cannot be written \(Input/output error\)"):
        write_note(tmp_path / "note", "text")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("code", "fine"), [(errno.EACCES, True), (errno.EPERM, True), (errno.EIO, False)])
def test_a_folder_that_may_be_entered_but_not_listed_can_be_written(tmp_path, monkeypatch, code, fine):
    real = os.open

    def refuse(path: Path, *args: object) -> int:
        if os.path.isdir(path):
            raise OSError(code, os.strerror(code), str(path))
        return real(path, *args)

    monkeypatch.setattr(durable.os, "open", refuse)
    if fine:
        make_folder(tmp_path / "sub")
        sync_folder(tmp_path)
    else:
        with pytest.raises(OSError, match="Input/output error"):
            sync_folder(tmp_path)


def test_nothing_stays_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for n in range(3):
        write_note(tmp_path / "note", str(n))
        make_folder(tmp_path / f"{n}/sub")
    assert len(os.listdir("/proc/self/fd")) == before
