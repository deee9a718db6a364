"""The helpers of clips.py as a fixture: test modules are not importable from each other."""

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("cache_clips", Path(__file__).with_name("clips.py"))
_clips = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_clips)


@pytest.fixture(scope="session")
def clips():
    return _clips
