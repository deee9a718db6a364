"""Videos in object stores are cached as those on a disk are: the same entries, byte for byte."""

import logging
from pathlib import Path

import fsspec
import pytest
from helpers import cache_clips as clips
from helpers.faulty_server import serve
from helpers.tars import write_tar

from vidlatent.engine.load import load_model
from vidlatent.errors import UsageError
from vidlatent.io.sources import patience
from vidlatent.jobs.cache import before
from vidlatent.jobs.cache.options import RunOptions
from vidlatent.jobs.cache.run import run
from vidlatent.jobs.cache.scan import scan

NOWHERE = Path("/nowhere")


@pytest.fixture(autouse=True)
def at_once(monkeypatch, tmp_path):
    """Nobody waits before asking again, and copies lie where the test can count them."""
    monkeypatch.setattr(patience, "WAITS_S", (0, 0, 0))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))


def put(**files: bytes) -> None:
    fs = fsspec.filesystem("memory")
    if fs.exists("/b"):
        fs.rm("/b", recursive=True)
    for name, data in files.items():
        fs.pipe_file(f"/b/{name}", data)


def listed(*sources: str) -> dict[str, dict]:
    return {clip.name: dict(clip.facts) for clip in scan(sources, NOWHERE)}


def test_interrupted_transfers_give_the_entries_of_a_disk_and_no_secret_is_kept(tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    folder = clips.write_clips(tmp_path / "videos", 3)
    clips.cache(folder, tmp_path / "disk")
    with serve() as server:
        for path in folder.iterdir():
            server.files[f"/{path.name}"] = path.read_bytes()
        server.faults = {"/clip0.avi": ["503", "short"], "/clip1.avi": ["reset", "429"]}
        names = [*(path.name for path in sorted(folder.iterdir())), "gone.avi"]
        urls = [server.address(f"/{name}?X-Amz-Signature=S3CRET&id=S3CRET", "me:S3CRET") for name in names]
        (tmp_path / "t.csv").write_text("\n".join(["path", *urls, ""]))
        root = tmp_path / "stored"
        first = clips.cache(tmp_path / "t.csv", root)
        assert not any(server.faults.values())
        wholes = [server.asked["GET", f"/clip{n}.avi"] for n in range(3)]
        second = clips.cache(tmp_path / "t.csv", root)
        assert [server.asked["GET", f"/clip{n}.avi"] for n in range(3)] == wholes == [3, 3, 1]
    assert (first.done, first.failed, second.reused, second.failed) == (3, 1, 3, 1)
    assert clips.objects(root) == clips.objects(tmp_path / "disk")
    failed = next(row for row in clips.rows(root) if row.status == "failed")
    assert failed.error.endswith(": no such object") and "/gone.avi?" in failed.source
    kept = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    shown = "".join(capfd.readouterr()) + caplog.text + repr(first)
    assert b"clip1.avi" in kept and b"S3CRET" not in kept and "S3CRET" not in shown
    assert not list((tmp_path / "tmp").iterdir())


def test_a_tar_and_a_table_in_a_store_are_cached_within_the_scratch_that_is_allowed(tmp_path):
    films = {f"{n}.avi": clips.write_clip(tmp_path / f"{n}.avi", n).read_bytes() for n in range(3)}
    tar = write_tar(
        tmp_path / "s.tar", ("0.avi", films["0.avi"]), ("0.txt", b"a cat"), ("1.avi", films["1.avi"])
    )
    put(**{"sets/s.tar": tar.read_bytes(), "sets/t.csv": b"path\n../2.avi\n", "2.avi": films["2.avi"]})
    options = RunOptions(workers=1, scratch=tar.stat().st_size + 10_000)
    stored, here = ("memory://b/sets/s.tar", "memory://b/sets/t.csv"), (str(tar), str(tmp_path / "2.avi"))
    for sources, name in ((stored, "cache"), (here, "disk")):
        tally = run(sources, tmp_path / name, load_model("toy", "cpu"), clips.recipe(), options)
        assert (tally.done, tally.failed) == (3, 0)
        assert (tally.store_s > 0) == (name == "cache")
    assert clips.objects(tmp_path / "cache") == clips.objects(tmp_path / "disk")
    names = {row.source: row.facts.get("caption") for row in clips.rows(tmp_path / "cache")}
    expected = ("sets/s.tar::0.avi", "sets/s.tar::1.avi", "2.avi")
    assert names == dict(zip((f"memory://b/{name}" for name in expected), ("a cat", None, None), strict=True))


def test_an_object_that_changes_between_being_hashed_and_encoded_fails(tmp_path, monkeypatch):
    put(**{"a.avi": clips.write_clip(tmp_path / "a.avi", 1).read_bytes()})
    other = clips.write_clip(tmp_path / "b.avi", 2).read_bytes()
    from vidlatent.jobs.cache import entry

    real = entry.finish_header
    monkeypatch.setattr(entry, "finish_header", lambda *a: (put(**{"a.avi": other}), real(*a))[1])
    assert clips.cache("memory://b/a.avi", tmp_path / "cache").failed == 1
    assert "a.avi: changed while it was read" in clips.rows(tmp_path / "cache")[0].error


def test_folders_and_patterns_of_a_store_are_listed_as_those_of_a_disk():
    put(**{"v/a.mp4": b"", "v/a.txt": b" a cat ", "v/x/b.mp4": b"", "v/.c.mp4": b"", "v/.d/e.mp4": b""})
    at = "memory://b/v"
    assert listed(at) == {f"{at}/a.mp4": {"caption": "a cat"}, f"{at}/a.txt": {}, f"{at}/x/b.mp4": {}}
    assert listed(f"{at}/*.mp4") == {f"{at}/a.mp4": {"caption": "a cat"}}
    assert list(listed(f"{at}/**/*.mp4")) == [f"{at}/a.mp4", f"{at}/x/b.mp4"]
    assert listed(f"{at}/x/b.mp4", at + "/x") == {f"{at}/x/b.mp4": {}}


def test_a_caption_in_a_store_that_cannot_be_taken_fails_its_clip():
    put(**{"a.mp4": b"", "a.txt": b"\xff", "b.mp4": b"", "b.txt": b"x" * ((1 << 20) + 1)})
    errors = [clip.error.what for clip in scan(["memory://b/*.mp4"], NOWHERE)]
    assert "b/a.txt: not UTF-8" in errors[0] and "b/b.txt: a caption of more than 1,048,576" in errors[1]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("memory://b/nothing", "no such object or folder"),
        ("memory://b/*.mp4", "matches no object"),
        ("memory://*/a.mp4", "no bucket is named"),
    ],
)
def test_what_is_not_in_a_store_is_an_error(source, what):
    put(**{"a.avi": b""})
    with pytest.raises(UsageError, match=what):
        list(scan([source], NOWHERE))


def test_an_address_that_was_made_a_path_is_refused_before_a_model_is_loaded():
    with pytest.raises(UsageError, match="an address that was made a Path\nhint: give it as text"):
        before.check_before_loading(["s3://bucket/videos"], Path("s3://bucket/cache"))


def test_a_table_that_is_not_there_is_a_row():
    put(**{"a.avi": b""})
    with serve() as server:
        (clip,) = scan([server.address("/t.csv", "me:S3CRET")], NOWHERE)
    assert (
        clip.unreadable and clip.error.what.endswith("/t.csv: no such object") and "S3CRET" not in clip.name
    )
