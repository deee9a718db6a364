"""A cache that tests take apart."""

import shutil
from pathlib import Path

import pytest
from helpers import cache_clips as clips


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two clips, and a cache of them; not to be changed."""
    folder = tmp_path_factory.mktemp("two_clips")
    clips.write_clips(folder / "videos", 2)
    clips.cache(folder / "videos", folder / "cache")
    return folder


@pytest.fixture
def root(made, tmp_path) -> Path:
    """A copy of that cache, to be changed."""
    return shutil.copytree(made / "cache", tmp_path / "cache")
