"""What the tests of the command line share."""

from functools import partial

import pytest
from helpers.command_line import run_here


@pytest.fixture
def vidlatent(capsys, monkeypatch):
    """Runs the command line in this process: its exit code, stdout and stderr."""
    monkeypatch.setenv("NO_COLOR", "1")
    return partial(run_here, capsys)
