"""A folder is filled by one run at a time, and nothing is written through what lies in its place."""

import os
from pathlib import Path

import pytest

from vidlatent.errors import UsageError
from vidlatent.files import partial_path
from vidlatent.folders import FolderReplacement


@pytest.mark.parametrize("kind", ["symlink", "file", "pipe"])
def test_no_folder_is_filled_through_a_link(tmp_path: Path, kind: str):
    place, victim = partial_path(tmp_path / "out"), tmp_path / "precious"
    victim.mkdir()
    (victim / "1.png").touch()
    {"symlink": lambda: place.symlink_to(victim), "file": place.touch, "pipe": lambda: os.mkfifo(place)}[
        kind
    ]()
    with pytest.raises(UsageError, match=r"\.out\.partial: is a link or no plain file or folder"):
        FolderReplacement(tmp_path / "out")
    assert (victim / "1.png").exists()


def test_a_folder_is_filled_by_one_run_at_a_time_and_what_was_left_goes(tmp_path: Path):
    path = tmp_path / "new" / "out"
    left = partial_path(path) / "of a killed run"
    left.mkdir(parents=True)
    first = FolderReplacement(path)
    assert not left.exists()
    (first.partial / "1.png").write_bytes(b"first")
    with pytest.raises(UsageError, match="out: another run is writing it"):
        FolderReplacement(path)
    first.commit()
    assert [p.name for p in path.iterdir()] == ["1.png"]
    second = FolderReplacement(path)
    second.discard()
    assert os.listdir(path.parent) == ["out"]
