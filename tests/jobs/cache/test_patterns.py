"""Patterns name what Python's own glob names, and end where links lead in circles."""

from glob import glob
from pathlib import Path

import pytest

from vidlatent.jobs.cache.patterns import find_files

PATTERNS = (
    *("*.mp4", "**/*.mp4", "**", "a/**", "**/b/*", "**/b/**/*.mp4", "*/**/1.*", "a/b/1.mp4", "**/.h/*.mp4"),
    *("**/[12].mp4", "?/**/2.mp4", "**/**/1.mp4", "**/.*", "none/**/*.mp4", "a/*/1.mp4", "a**/1.mp4"),
)


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in (
        "1.mp4",
        "a/1.mp4",
        "a/2.mkv",
        "a/b/1.mp4",
        "a/b/c/2.mp4",
        "b/2.mp4",
        ".h/1.mp4",
        "a/.x.mp4",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_names_what_glob_names(folder, pattern):
    known = {Path(p) for p in glob(f"{folder}/{pattern}", recursive=True) if Path(p).is_file()}
    assert find_files(f"{folder}/{pattern}") == sorted(known)


def test_two_links_that_lead_in_circles_end(folder):
    """Each way through both of them was another name, so there was no end."""
    (folder / "a/up").symlink_to(folder)
    (folder / "b/up").symlink_to(folder)
    (folder / "b/self").symlink_to("self")
    found = find_files(f"{folder}/**/*.mp4")
    assert len({path.resolve() for path in found}) == len(found) == 5
