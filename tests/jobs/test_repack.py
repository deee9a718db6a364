"""Repacking one file with its sound: nothing of another run, or of somebody else, is touched."""

from pathlib import Path

import pytest
from helpers.stored import clock_of, header_of, some_latents

from vidlatent.errors import UsageError
from vidlatent.files import Replacement, partial_path
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.jobs.repack import RepackOptions, repack

SOUND, INT8 = b"a track " * 100, RepackOptions("int8")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A `.latent` with sound, in a folder of its own."""
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "track").write_bytes(SOUND)
    with LatentWriter(folder / "clip.latent", header_of(3, 2, 5), 3, 2, 5, "F32") as writer:
        writer.append(some_latents(3))
        writer.close(clock_of(3), folder / "track")
    return folder / "clip.latent"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "small.latent"


@pytest.fixture
def aside(target: Path) -> Path:
    """Where the sound lies meanwhile."""
    return partial_path(target.with_suffix(".mka"))


def test_sound_is_copied_whatever_a_killed_run_has_left_in_its_place(clip: Path, target: Path, aside: Path):
    aside.write_bytes(b"longer than the sound" * 100)
    repack(clip, target, INT8)
    with open_latent(target) as latents, latents.open_audio() as sound:
        assert sound.read() == SOUND
    assert not aside.exists()


def test_the_sound_of_another_run_that_writes_the_target_stays(clip: Path, target: Path, aside: Path):
    """It was overwritten and removed before the other run was noticed, which then failed for it."""
    other = Replacement(target)
    aside.write_bytes(b"of the other run")
    with pytest.raises(UsageError, match="another run is writing it"):
        repack(clip, target, INT8)
    assert aside.read_bytes() == b"of the other run"
    other.discard()


def test_no_sound_is_written_through_a_link(clip: Path, target: Path, aside: Path, tmp_path: Path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    aside.symlink_to(precious)
    with pytest.raises(UsageError, match="is a link or no plain file"):
        repack(clip, target, INT8)
    assert precious.read_text() == "mine" and aside.is_symlink()
    assert not target.exists()
