"""What the tests of the command line share."""

from functools import partial
from pathlib import Path

import pytest
from helpers.command_line import run_here

from vidlatent.cli import app


@pytest.fixture
def vidlatent(capsys, monkeypatch):
    """Runs the command line in this process: its exit code, stdout and stderr."""
    monkeypatch.setenv("NO_COLOR", "1")
    return partial(run_here, capsys)


@pytest.fixture(scope="session")
def little_clip(tmp_path_factory) -> Path:
    """Five frames of 16x16: as little as a model takes."""
    path = tmp_path_factory.mktemp("little") / "clip.y4m"
    path.write_bytes(b"YUV4MPEG2 W16 H16 F25:1 C420\n" + (b"FRAME\n" + bytes(16 * 16 * 3 // 2)) * 5)
    return path


@pytest.fixture(scope="session")
def little_latent(little_clip) -> Path:
    """The latents of the toy model of that clip."""
    path = little_clip.with_name("clip.latent")
    assert app.run(["encode", str(little_clip), "-o", str(path), "-m", "toy", "--device", "cpu"]) == 0
    return path


@pytest.fixture
def little(little_clip, little_latent, tmp_path) -> dict[str, Path]:
    """The names of both, of what is not there, and of what is to be made."""
    return {
        "clip": little_clip,
        "latent": little_latent,
        "gone": tmp_path / "gone.mp4",
        "new": tmp_path / "new",
    }
