"""A weight file is hashed once, and again as soon as anything tells that it may have changed."""

import os
import time
from pathlib import Path

import pytest

from vidlatent.errors import BadWeights
from vidlatent.files import sha256_file
from vidlatent.models import hashes
from vidlatent.models.weights import sha256_of

DAY_S = 24 * 3600


@pytest.fixture(autouse=True)
def own_notes(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    monkeypatch.setattr(hashes, "LEAST_BYTES", 1)


@pytest.fixture
def counted(monkeypatch) -> list[Path]:
    """The files that were hashed, one after the other."""
    found: list[Path] = []

    def hash_it(path: Path) -> str:
        found.append(path)
        return sha256_file(path)

    monkeypatch.setattr(hashes, "sha256_file", hash_it)
    return found


@pytest.fixture
def weights(tmp_path, monkeypatch) -> Path:
    """A file that nobody has written to for a while: only its clock can be said, so it is the present."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"weights")
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + DAY_S)
    return path


def rewrite(path: Path) -> None:
    """Other bytes in the same file, of the same length, with the times of reading and writing they had."""
    before = path.stat()
    path.write_bytes(b"WEIGHTS")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_file(path: Path) -> None:
    """Another file in its place."""
    other = path.with_name("other")
    other.write_bytes(b"WEIGHTS")
    os.replace(other, path)


def test_a_file_is_hashed_once(weights, counted):
    assert {hashes.find_sha256(weights) for _ in range(3)} == {sha256_file(weights)}
    assert counted == [weights]


@pytest.mark.parametrize("change", [rewrite, replace_file])
def test_a_file_that_was_changed_is_hashed_again(weights, counted, change):
    before = hashes.find_sha256(weights)
    change(weights)
    assert hashes.find_sha256(weights) == sha256_file(weights) != before
    assert len(counted) == 2


def test_a_file_that_was_written_a_moment_ago_is_not_noted(weights, counted, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: weights.stat().st_ctime + 1)
    assert hashes.find_sha256(weights) == hashes.find_sha256(weights)
    assert len(counted) == 2


def test_a_file_that_changes_while_it_is_hashed_is_not_noted(weights, monkeypatch):
    def hash_slowly(path: Path) -> str:
        found = sha256_file(path)
        rewrite(path)
        return found

    monkeypatch.setattr(hashes, "sha256_file", hash_slowly)
    hashes.find_sha256(weights)
    assert not hashes.place_note(weights).exists()


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b"{}", b"\xff", b'{"sha256": "ab"}', b"[" * 9999])
def test_a_damaged_note_is_none(weights, counted, note):
    hashes.find_sha256(weights)
    hashes.place_note(weights).write_bytes(note)
    assert hashes.find_sha256(weights) == sha256_file(weights)
    assert len(counted) == 2


def test_where_nothing_can_be_noted_the_file_is_hashed_each_time(weights, counted, tmp_path):
    (tmp_path / "assets").write_bytes(b"a file in the place of the folder")
    assert hashes.find_sha256(weights) == hashes.find_sha256(weights) == sha256_file(weights)
    assert len(counted) == 2


def test_weights_that_are_refused_are_hashed_again_next_time(weights, counted):
    for _ in range(2):
        with pytest.raises(BadWeights, match=f"sha256 {sha256_file(weights)}, expected abc"):
            sha256_of(weights, "abc")
    assert len(counted) == 2
