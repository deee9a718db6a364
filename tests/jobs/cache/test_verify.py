"""What is wrong with a cache is found, named, and mended by the next run."""

import errno
import os
from pathlib import Path

import pytest
from helpers import cache_clips as clips
from helpers.command_line import run_here

from vidlatent.errors import UsageError
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.jobs.cache.journal import JournalWriter
from vidlatent.jobs.cache.manifest import open_manifest
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.verify import Finding, Replay, replay_sample, verify
from vidlatent.jobs.models import ModelChoice


def entry_of(root: Path, clip: str) -> Path:
    (row,) = [row for row in clips.rows(root) if row.source.endswith(clip)]
    return Store(root).entry_path(row.key)


def findings(root: Path) -> list[Finding]:
    return [finding for finding in verify(root) if finding is not None]


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def exchange(path: Path) -> None:
    """Write its latents in another order: a file as long as before, in which every checksum is right."""
    with open_latent(path) as latents:
        header, clock, shape = latents.header, latents.clock, latents.shape
        values = latents.read(0, latents.frames)
    with LatentWriter(path, header, *shape[1:], "F32") as writer:
        writer.append(values.flip(0))
        writer.close(clock)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (remove, "missing"),
        (cut, "expected {size} bytes, found {found}"),
        (lengthen, "expected {size} bytes, found {found}"),
        (flip, "does not match its checksum"),
        (exchange, "whole, but not what was written (sha256 differs)"),
    ],
)
def test_every_kind_of_harm_is_found_named_and_mended(made, root, harm, words):
    path, before = entry_of(root, "clip1.avi"), clips.objects(root)
    size = path.stat().st_size
    harm(path)
    (finding,) = findings(root)
    found = path.stat().st_size if path.exists() else 0
    assert words.format(size=size, found=found) in finding.what
    assert finding.key == path.stem and finding.source.endswith("clip1.avi") and finding.recorded
    assert open_manifest(root).find(path.stem).status == "damaged"
    assert clips.cache(made / "videos", root).done == 1
    assert clips.objects(root) == before and not findings(root)


@pytest.mark.parametrize(("code", "lost"), [(errno.EACCES, False), (errno.ESTALE, False), (errno.EIO, True)])
def test_a_file_that_cannot_be_read_is_a_finding_and_others_are_still_checked(root, monkeypatch, code, lost):
    """Only what the disk itself has lost is written down as damaged, and made again."""
    path, real = entry_of(root, "clip0.avi"), Path.open

    def refuse(self, *args, **kwargs):
        if self == path:
            raise OSError(code, os.strerror(code), str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    found = list(verify(root))
    assert len(found) == 2 and found.count(None) == 1
    finding = next(filter(None, found))
    assert f"cannot be read ({os.strerror(code)})" in finding.what and finding.recorded == lost
    assert (open_manifest(root).find(path.stem).status == "damaged") == lost


def test_a_disk_that_fails_once_and_then_gives_the_entry_has_lost_nothing(root, monkeypatch):
    """A good entry was written down as damaged, and made again."""
    path, real, refused = entry_of(root, "clip0.avi"), Path.open, []

    def refuse_once(self, *args, **kwargs):
        if self == path and not refused:
            refused.append(self)
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse_once)
    assert list(verify(root)) == [None, None] and refused


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EIO])
def test_a_cache_that_cannot_be_written_still_says_what_is_wrong(root, monkeypatch, code):
    """The first finding ended in an error about the manifest, and the rest was never said."""
    for clip in ("clip0.avi", "clip1.avi"):
        flip(entry_of(root, clip))

    def refuse(path, *args, **kwargs):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr("vidlatent.jobs.cache.journal.os.open", refuse)
    found = findings(root)
    assert len(found) == 2 and not any(finding.recorded for finding in found)
    assert all("does not match its checksum" in finding.what for finding in found)


def test_a_read_only_cache_is_said_to_be_one(capsys, root, monkeypatch):
    flip(entry_of(root, "clip0.avi"))

    def refuse(self, *records):
        raise UsageError("cannot be written")

    monkeypatch.setattr(JournalWriter, "append", refuse)
    result = run_here(capsys, "cache", "verify", root)
    assert result.code == 1 and "damaged: " in result.err
    assert "note: 1 of these could not be looked into, or not written into the manifest" in result.err


def replays(root: Path) -> dict[str, Replay | Finding]:
    return {Path(one.source).name: one for one in replay_sample(root, 9, choice=ModelChoice(device="cpu"))}


@pytest.mark.parametrize(("frames", "words"), [(6, "more than the 5 frames"), (4, "has 4 frames now, had 5")])
def test_a_source_that_grew_or_shrank_is_not_called_identical_and_others_are_compared(
    tmp_path, frames, words
):
    """The comparison ended with the shorter of the two: what had grown was identical as far as it went."""
    folder, root = clips.write_clips(tmp_path / "videos", 2), tmp_path / "cache"
    clips.cache(folder, root)
    clips.write_clip(folder / "clip0.avi", 0, frames=frames)
    found = replays(root)
    assert isinstance(found["clip0.avi"], Finding) and words in found["clip0.avi"].what
    assert not found["clip0.avi"].recorded
    assert found["clip1.avi"].identical


def test_a_source_of_other_content_is_told_by_its_psnr(tmp_path):
    folder, root = clips.write_clips(tmp_path / "videos", 1), tmp_path / "cache"
    clips.cache(folder, root)
    clips.write_clip(folder / "clip0.avi", 7, frames=5)
    (found,) = replays(root).values()
    assert not found.identical and 5 < found.psnr < 15  # noise against noise
    assert found.psnr == round(found.psnr, 3) != round(found.psnr, 2)


@pytest.mark.parametrize(("frames", "words"), [(8, "more than the 7 frames"), (6, "has 6 frames now, had 7")])
def test_frames_that_were_cut_off_to_fit_the_grid_are_still_the_sources(tmp_path, frames, words):
    path, root = clips.write_clip(tmp_path / "videos/a.avi", 1, frames=7), tmp_path / "cache"
    clips.cache(path.parent, root)
    (row,) = clips.rows(root)
    assert (row.frames, row.cut) == (5, 2) and replays(root)["a.avi"].identical
    clips.write_clip(path, 1, frames=frames)
    assert words in replays(root)["a.avi"].what


def test_only_entries_that_are_there_are_compared_and_only_with_sources_that_are(tmp_path):
    folder, root = clips.write_clips(tmp_path / "videos", 3), tmp_path / "cache"
    clips.cache(folder, root)
    entry_of(root, "clip0.avi").unlink()
    (folder / "clip1.avi").unlink()
    assert set(replays(root)) == {"clip2.avi"}


def test_what_is_known_to_be_damaged_is_no_finding_and_others_are_still_checked(root):
    for clip, left in (("clip0.avi", [None]), ("clip1.avi", [])):
        flip(entry_of(root, clip))
        assert len(findings(root)) == 1 and list(verify(root)) == left


def test_what_cannot_be_compared_is_said_and_counts(capsys, tmp_path):
    folder, root = clips.write_clips(tmp_path / "videos", 1), tmp_path / "cache"
    clips.cache(folder, root)
    clips.write_clip(folder / "clip0.avi", 0, frames=8)
    result = run_here(capsys, "cache", "verify", root, "--decode", 1, "--device", "cpu")
    assert result.code == 1 and "not compared: " in result.err and "more than the 5 frames" in result.err
