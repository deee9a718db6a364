"""A run with nothing to do is told from a note, and from nothing that may have changed since."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import cache_clips as clips

from vidlatent.cli import app
from vidlatent.jobs.cache import unchanged
from vidlatent.jobs.cache.manifest import Manifest
from vidlatent.jobs.cache.scan import scan
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.tally import Tally
from vidlatent.jobs.cache.unchanged import Request, SourceStates, find_unchanged, note_finished

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # whoever imports it gets an ImportError
from vidlatent.cli.app import run
from vidlatent.jobs.cache import unchanged
unchanged.AT_REST_S = -9.0
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def files_are_at_rest(monkeypatch):
    monkeypatch.setattr(unchanged, "AT_REST_S", -9.0)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two clips, one with a caption, and weights with a config; only the cache of them is made by a model."""
    videos = clips.write_clips(tmp_path / "videos", 2)
    (videos / "clip0.txt").write_text("a caption")
    (tmp_path / "model").mkdir()
    for name in ("weights.safetensors", "config.json"):
        (tmp_path / "model" / name).write_bytes(b"{}")
    return tmp_path


@pytest.fixture
def request_(folder) -> Request:
    return Request.of(["cache", "videos"], [str(folder / "videos")], (".txt",))


def note(folder: Path, request: Request, **tally: object) -> None:
    """Note what a run that has just ended would."""
    states = SourceStates()
    found = list(states.watch(scan(request.sources, folder / "cache", request.captions)))
    recipe = next(row.recipe for row in clips.rows(folder / "cache"))
    told = {
        "clips": len(found),
        "done": 1,
        "reused": 1,
        "skipped": 1,
        "recipe": recipe,
        "sources": states.digest,
    }
    note_finished(folder / "cache", request, folder / "model/weights.safetensors", Tally(**(told | tally)))


def rewrite(path: Path) -> None:
    """Other bytes, the same length, the same times of reading and writing."""
    before, data = path.stat(), path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def remove_entry(folder: Path) -> None:
    path = next((folder / "cache/objects").glob("*/*.latent"))
    path.rename(path.with_suffix(".aside"))


def damage_entry(folder: Path) -> None:
    """Find a damaged entry, as `cache verify` does."""
    manifest = Manifest(Store.open(folder / "cache"))
    manifest.add_damaged(next(iter(manifest.rows())), "bits")
    manifest.close()


CHANGES = {
    "a source": lambda folder: rewrite(folder / "videos/clip0.avi"),
    "one more source": lambda folder: clips.write_clip(folder / "videos/new.avi", 9),
    "one source less": lambda folder: (folder / "videos/clip1.avi").unlink(),
    "a caption": lambda folder: (folder / "videos/clip0.txt").write_text("another one"),
    "weights": lambda folder: rewrite(folder / "model/weights.safetensors"),
    "a config": lambda folder: rewrite(folder / "model/config.json"),
    "an entry is gone": remove_entry,
    "an entry is damaged": damage_entry,
}


def test_a_run_with_nothing_to_do_imports_no_torch(tmp_path):
    clips.write_clips(tmp_path / "videos", 2)
    words = ["cache", str(tmp_path / "videos"), "-o", str(tmp_path / "cache"), "-m", "toy", "--workers", "1"]
    assert app.run([*words, "--json"]) == 0
    again = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *words, "--json"], capture_output=True, text=True
    )
    assert again.returncode == 0 and "0 made, 2 there already" in again.stderr
    told = json.loads(again.stdout)
    assert (told["clips"], told["done"], told["reused"], told["failed"]) == (2, 0, 2, 0)


def test_what_has_changed_is_looked_at_again(folder, request_):
    """One cache for all changes: each begins with a note of how it is then, and entries are put back."""
    clips.cache(folder / "videos", folder / "cache")
    for name, change in CHANGES.items():
        note(folder, request_)
        known = find_unchanged(folder / "cache", request_)
        assert known is not None, f"before {name} changes"
        assert (known.done, known.reused, known.skipped, known.failed) == (0, 2, 1, 0)
        change(folder)
        assert find_unchanged(folder / "cache", request_) is None, name
        for path in (folder / "cache/objects").glob("*/*.aside"):
            path.rename(path.with_suffix(".latent"))


@pytest.mark.parametrize("tally", [{"failed": 1}, {"stopped": True}, {"sources": ""}], ids=str)
def test_a_run_that_left_something_to_do_is_not_noted(folder, request_, monkeypatch, tally):
    monkeypatch.setattr(clips, "rows", lambda root: [type("Row", (), {"recipe": "r"})])
    note(folder, request_, **tally)
    assert not (folder / "cache/runs").exists()


def test_weights_that_were_written_meanwhile_are_not_noted(folder, request_, monkeypatch):
    """They may have been read before."""
    monkeypatch.setattr(clips, "rows", lambda root: [type("Row", (), {"recipe": "r"})])
    monkeypatch.setattr(unchanged, "AT_REST_S", 0.0)
    note(folder, replace(request_, began=(folder / "model/weights.safetensors").stat().st_ctime - 1))
    assert not (folder / "cache/runs").exists()


def test_sources_that_were_written_a_moment_ago_may_change_again(folder, monkeypatch):
    monkeypatch.setattr(unchanged, "AT_REST_S", 3600.0)
    states = SourceStates()
    list(states.watch(scan([str(folder / "videos")], folder / "cache")))
    assert states.digest == ""


def test_sources_are_known_once_all_were_found(folder):
    states = SourceStates()
    next(states.watch(scan([str(folder / "videos")], folder / "cache")))
    assert states.digest == ""


@pytest.mark.parametrize(
    "words", [["--rehash"], ["--steal"], ["--dry-run"], ["--retry-failed"], ["--engine=ray"]], ids=str
)
def test_words_that_ask_for_more_have_no_name(words):
    assert Request.of(["cache", "videos", *words], ["videos"], ()).name == ""


def test_what_a_scheduler_shares_out_and_what_is_in_a_store_has_no_name(monkeypatch):
    assert Request.of(["cache"], ["videos", "s3://bucket/videos"], ()).name == ""
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    assert Request.of(["cache"], ["videos"], ()).name == ""


def test_other_words_places_and_machines_have_other_names(monkeypatch, tmp_path):
    def name(*words: str) -> str:
        return Request.of(["cache", *words], ["videos"], ()).name

    names = {name(), name("--frames", "5")}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    names.add(name())
    monkeypatch.chdir(tmp_path)
    names.add(name())
    monkeypatch.setattr(unchanged, "_describe_code", lambda: ["another release"])
    assert len(names | {name()}) == 5


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"weights": 7}', b"\xff"])
def test_a_damaged_note_is_none(folder, request_, text):
    path = request_.place_note(Store(folder / "cache"))
    path.parent.mkdir(parents=True)
    path.write_bytes(text)
    assert find_unchanged(folder / "cache", request_) is None
