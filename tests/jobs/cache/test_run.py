"""A whole run: every file accounted_for for, nothing made twice, nothing left behind."""

import errno
import os
import signal
import socket
import subprocess
import tarfile
import threading
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from helpers import cache_clips as clips
from helpers import warm

from vidlatent.engine.load import load_model
from vidlatent.errors import OutOfResources, UsageError
from vidlatent.files import naming_read_errors
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.sources.disk import DiskSource
from vidlatent.jobs.cache import entry
from vidlatent.jobs.cache.claims import Claim
from vidlatent.jobs.cache.entry import Encoded, encode_entry
from vidlatent.jobs.cache.options import RunOptions
from vidlatent.jobs.cache.plan import Part
from vidlatent.jobs.cache.run import run
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.encode import EncodeOptions, encode
from vidlatent.jobs.reading.process import Worker
from vidlatent.jobs.reading.readers import Readers
from vidlatent.jobs.reading.remote_video import RemoteVideo


@pytest.fixture
def mixed(tmp_path) -> Path:
    """Good clips, duplicates, same names, and everything that is wrong with real folders."""
    folder = tmp_path / "videos"
    clips.write_clip(folder / "a/clip.avi", 1)
    clips.write_clip(folder / "b/clip.avi", 2, frames=7)
    clips.write_clip(folder / "b/copy of a.avi", 1)
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video at all")
    (folder / "clip.txt").write_text("a caption")
    whole = clips.write_clip(folder / "torn.avi", 3).read_bytes()
    (folder / "torn.avi").write_bytes(whole[: len(whole) // 2])
    return folder


def test_every_file_is_accounted_for(tmp_path, mixed):
    tally = clips.cache(mixed, tmp_path / "cache", frames_rule="pad")
    found = {str(Path(row.source).relative_to(mixed)): row for row in clips.rows(tmp_path / "cache")}
    assert {name: row.status for name, row in found.items()} == {
        **dict.fromkeys(("a/clip.avi", "b/clip.avi", "b/copy of a.avi"), "done"),
        **dict.fromkeys(("empty.mp4", "text.mp4", "torn.avi"), "failed"),
        "clip.txt": "skipped",
    }
    assert (tally.done, tally.reused, tally.failed, tally.skipped) == (2, 1, 3, 1)
    assert "empty file" in found["empty.mp4"].error
    assert "cannot be decoded" in found["torn.avi"].error and "--allow-truncated" in found["torn.avi"].error
    assert found["a/clip.avi"].key == found["b/copy of a.avi"].key != found["b/clip.avi"].key
    assert found["a/clip.avi"].shape == (3, 768, 4, 4) and found["b/clip.avi"].frames == 7
    left = {p.suffix for p in (tmp_path / "cache").rglob("*") if p.is_file()}
    assert left == {".latent", ".json", ".jsonl"}


def test_an_entry_holds_what_encode_makes_of_the_clip(tmp_path):
    source = clips.write_clip(tmp_path / "videos/clip.avi", 1, frames=11)
    clips.cache(source.parent, tmp_path / "cache", frames=10, frames_rule="pad")
    model = load_model("toy", "cpu")
    encode(source, tmp_path / "x.latent", model, EncodeOptions(clips.recipe(frames=10).read, model.spec.plan))
    (row,) = clips.rows(tmp_path / "cache")
    with (
        open_latent(Store(tmp_path / "cache").entry_path(row.key)) as entry,
        open_latent(tmp_path / "x.latent") as own,
    ):
        assert torch.equal(entry.read(0, entry.frames), own.read(0, own.frames))
        assert entry.clock == own.clock and entry.header.pad == own.header.pad
        assert entry.header.source.sha256 == own.header.source.sha256 == row.source_sha256
        assert entry.header.extra == {"cache_key": row.key}


def test_a_caption_mended_later_costs_no_encoding(tmp_path):
    clip, root = clips.write_clip(tmp_path / "videos/clip.avi", 1), tmp_path / "cache"
    caption = clip.with_suffix(".txt")
    caption.write_text("a cat")
    clips.cache(clip.parent, root)
    caption.write_bytes(b"\xff")
    assert clips.cache(clip.parent, root).failed == 1
    assert [row.error for row in clips.rows(root) if row.status == "failed"] == [
        f"{caption}: not UTF-8 text (byte 0 is 0xff)\nhint: save the caption as UTF-8"
    ]
    caption.write_text("a dog")
    assert clips.cache(clip.parent, root).reused == 1
    (row,) = [row for row in clips.rows(root) if row.status == "done"]
    assert row.facts == {"caption": "a dog"}


def test_a_second_run_does_nothing(tmp_path, mixed):
    root = tmp_path / "cache"
    clips.cache(mixed, root)
    before = written(root)
    tally = clips.cache(mixed, root)
    assert (tally.done, tally.reused, tally.failed) == (0, 3, 3)
    assert written(root) == before


def written(root: Path) -> dict[Path, tuple[int, bytes]]:
    """Entries and rows, and when they were written."""
    files = (p for name in ("objects", "manifest") for p in (root / name).rglob("*") if p.is_file())
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files}


def test_renamed_and_moved_clips_are_made_once(tmp_path):
    folder = clips.write_clips(tmp_path / "videos", 2)
    clips.cache(folder, tmp_path / "cache")
    (folder / "clip0.avi").rename(folder / "another name.avi")
    folder.rename(tmp_path / "moved")
    tally = clips.cache(tmp_path / "moved", tmp_path / "cache")
    assert (tally.done, tally.reused) == (0, 2)
    assert len(clips.objects(tmp_path / "cache")) == 2


def test_a_changed_clip_of_the_same_name_size_and_time_is_made_again_with_rehash(tmp_path):
    clip = clips.write_clip(tmp_path / "videos/clip.avi", 1)
    os.utime(clip, (1e9, 1e9))
    clips.cache(clip.parent, tmp_path / "cache")
    clips.write_clip(clip, 2)
    os.utime(clip, (1e9, 1e9))
    assert clips.cache(clip.parent, tmp_path / "cache").reused == 1  # what the fast path cannot see
    assert clips.cache(clip.parent, tmp_path / "cache", replace(clips.ONE, rehash=True)).done == 1


def test_a_clip_changed_a_moment_ago_is_not_taken_for_known(tmp_path):
    clip = clips.write_clip(tmp_path / "videos/clip.avi", 1)
    moment = time.time() + 3600  # a slow machine must not let it come to rest
    os.utime(clip, (moment, moment))
    clips.cache(clip.parent, tmp_path / "cache")
    clips.write_clip(clip, 2)
    os.utime(clip, (moment, moment))
    assert clips.cache(clip.parent, tmp_path / "cache").done == 1


def test_a_clip_that_changes_while_it_is_read_gives_no_entry(tmp_path, monkeypatch):
    clip = clips.write_clip(tmp_path / "videos/clip.avi", 1)
    opened = RemoteVideo.__enter__
    monkeypatch.setattr(RemoteVideo, "__enter__", lambda video: os.utime(clip, (1e9, 1e9)) or opened(video))
    clips.cache(clip.parent, tmp_path / "cache")
    (row,) = clips.rows(tmp_path / "cache")
    assert row.status == "failed" and "changed while it was read" in row.error
    assert not clips.objects(tmp_path / "cache")


def test_failures_stay_until_they_are_to_be_retried(tmp_path):
    torn = clips.write_clip(tmp_path / "videos/torn.avi", 1)
    torn.write_bytes(torn.read_bytes()[:-5000])
    root = tmp_path / "cache"
    assert clips.cache(torn.parent, root).seconds > 0
    assert clips.cache(torn.parent, root).seconds == 0
    assert clips.cache(torn.parent, root, replace(clips.ONE, retry_failed=True)).seconds > 0
    assert [row.attempt for row in clips.rows(root)] == [1]


@pytest.mark.parametrize("harm", ["removed", "cut"])
def test_an_entry_that_is_gone_or_cut_is_made_again_byte_for_byte(tmp_path, harm):
    folder, root = clips.write_clips(tmp_path / "videos", 2), tmp_path / "cache"
    clips.cache(folder, root)
    before = clips.objects(root)
    victim = root / next(iter(before))
    victim.unlink() if harm == "removed" else victim.write_bytes(victim.read_bytes()[:-1])
    assert clips.cache(folder, root).done == 1
    assert clips.objects(root) == before


def test_an_entry_published_just_before_a_crash_is_taken_over(tmp_path):
    folder, root = clips.write_clips(tmp_path / "videos", 2), tmp_path / "cache"
    clips.cache(folder, root)
    truth = clips.truth(root)
    for journal in (root / "manifest").iterdir():
        journal.unlink()
    tally = clips.cache(folder, root)
    assert (tally.done, tally.reused) == (0, 2)
    assert clips.truth(root) == truth


def test_three_shards_together_are_one_run(tmp_path, mixed):
    clips.cache(mixed, tmp_path / "whole")
    for index in range(3):
        clips.cache(mixed, tmp_path / "parts", RunOptions(workers=1, shard=Part(index, 3)))
    assert clips.objects(tmp_path / "parts") == clips.objects(tmp_path / "whole")
    assert clips.truth(tmp_path / "parts") == clips.truth(tmp_path / "whole")


def test_clips_of_a_tar_are_those_of_the_folder(tmp_path):
    folder = clips.write_clips(tmp_path / "videos", 2)
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar.add(folder, "videos")
    clips.cache(folder, tmp_path / "folder")
    clips.cache(tmp_path / "s.tar", tmp_path / "tar")
    assert clips.objects(tmp_path / "tar") == clips.objects(tmp_path / "folder")


def test_a_long_video_becomes_clips_that_join_to_the_whole(tmp_path):
    clip = clips.write_clip(tmp_path / "videos/clip.avi", 1, frames=20)
    root = tmp_path / "cache"
    model = load_model("toy", "cpu")
    clips.cache(clip, root, chunk_s=Fraction("0.32"), frames_rule="pad")
    found = sorted(clips.rows(root), key=lambda row: Fraction(row.span[0] or 0))
    assert [row.frames for row in found] == [8, 8, 4]
    parts = [model.decode(_latents(root, row)) for row in found]
    encode(clip, tmp_path / "x.latent", model)
    with open_latent(tmp_path / "x.latent") as own:
        whole = model.decode(own.read(0, own.frames).transpose(0, 1)[None])
    joined = torch.cat([p[:, :, : row.frames] for p, row in zip(parts, found, strict=True)], dim=2)
    assert torch.equal(joined, whole[:, :, :20])


def _latents(root: Path, row) -> torch.Tensor:
    with open_latent(Store(root).entry_path(row.key)) as entry:
        return entry.read(0, entry.frames).transpose(0, 1)[None]


@pytest.mark.usefixtures("processes_as_in_real_life")
def test_a_codec_that_crashes_is_a_failed_row_and_not_the_end(tmp_path, monkeypatch):
    folder = clips.write_clips(tmp_path / "videos", 3)
    clips.write_clip(folder / "clip1.avi", 1, frames=60, size=(128, 128))  # more than a pipe holds
    monkeypatch.setattr("vidlatent.jobs.cache.budget.QUEUE_BYTES", 1)  # so most of it is still to be read
    opened = RemoteVideo.__enter__

    def shot(video: RemoteVideo) -> RemoteVideo:
        opened(video)
        if "clip1" in video._question.source.name:
            os.kill(video._worker.pid, signal.SIGSEGV)
        return video

    monkeypatch.setattr(RemoteVideo, "__enter__", shot)
    tally = clips.cache(folder, tmp_path / "cache")
    assert (tally.done, tally.failed) == (2, 1)
    (failed,) = [row for row in clips.rows(tmp_path / "cache") if row.status == "failed"]
    assert "clip1.avi: the process that read it died (SIGSEGV)" in failed.error


@pytest.mark.usefixtures("processes_as_in_real_life")
def test_a_worker_that_died_is_replaced(tmp_path):
    clip = clips.write_clip(tmp_path / "clip.avi", 1)
    from vidlatent.jobs.reading.survey import Look

    with Readers(1) as readers:
        ((_, first),) = readers.looks([DiskSource(clip)], Look)
        readers._workers[0]._process.kill()
        readers._workers[0]._process.wait()
        ((_, second),) = readers.looks([DiskSource(clip)], Look)
    assert first == second and first.sha256


def test_waiting_frames_are_bounded_in_bytes(tmp_path):
    clip = clips.write_clip(tmp_path / "clip.avi", 1, frames=60, size=(64, 64))
    frame_bytes = 64 * 64 * 3
    from vidlatent.io.read.source import ReadOptions
    from vidlatent.jobs.reading.messages import Read

    with Readers(1, 2 * 5 * frame_bytes) as readers:  # of two clips, if there were two
        for _, video in readers.videos([clip], lambda path: Read(DiskSource(path), ReadOptions())):
            with video:
                deadline = time.monotonic() + 20
                while video._frames._queue.qsize() < 5 and time.monotonic() < deadline:
                    time.sleep(0.01)
                time.sleep(0.2)
                assert video._frames._queue.qsize() == 5
                assert sum(1 for _ in video.frames()) == 60


def test_a_clip_that_another_process_is_making_is_waited_for(tmp_path):
    folder, root = clips.write_clips(tmp_path / "videos", 2), tmp_path / "cache"
    clips.cache(folder, tmp_path / "other")
    key = clips.rows(tmp_path / "other")[0].key
    claim = Claim.take(Store.create(root).claims / key)
    waits = Waits(claim)
    tally = run([str(folder)], root, load_model("toy", "cpu"), clips.recipe(), clips.ONE, waits)
    assert tally.done == 2 and waits.had_done == 1
    assert clips.objects(root) == clips.objects(tmp_path / "other")
    name = Path(clips.rows(tmp_path / "other")[0].source)
    assert waits.said == {f"{name}, which process {os.getpid()} on {socket.gethostname()} is making"}
    assert not tally.waiting


class Waits:
    """Notes what a run says that it waits for, and lets it have that: the claim of another process."""

    def __init__(self, claim: Claim) -> None:
        self.said: set[str] = set()
        self._claim = claim

    def update(self, tally) -> None:
        """Note it, where it waits."""
        if tally.waiting and not self.said:
            self.said, self.had_done = {tally.waiting}, tally.done
            self._claim.release()


def test_two_processes_share_the_work(tmp_path):
    folder, root = clips.write_clips(tmp_path / "videos", 6), tmp_path / "cache"
    clips.cache(folder, tmp_path / "alone")
    command = ["-m", "vidlatent", "cache", folder, "-o", root, "-m", "toy", "--workers", "1", "--json"]
    both = [warm.Process(command, stdout=subprocess.PIPE) for _ in range(2)]
    import json

    tallies = [json.loads(process.communicate(timeout=120)[0]) for process in both]
    assert sum(tally["done"] for tally in tallies) == 6
    assert [tally["done"] + tally["reused"] for tally in tallies] == [6, 6]
    assert clips.objects(root) == clips.objects(tmp_path / "alone")


def test_sigterm_finishes_the_clip_and_says_so(tmp_path):
    """The first row comes when the second clip is encoded, and that entry is finished as well."""
    folder, root = clips.write_clips(tmp_path / "videos", 3), tmp_path / "cache"

    class Terminator:
        def update(self, tally):
            if tally.done == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    tally = run([str(folder)], root, load_model("toy", "cpu"), clips.recipe(), clips.ONE, Terminator())
    assert tally.stopped and tally.done == 2 and signal.getsignal(signal.SIGTERM) == before
    assert clips.cache(folder, root).done == 1
    assert not list((root / "claims").iterdir())


def test_a_window_that_does_not_fit_is_a_failed_row(tmp_path, monkeypatch):
    folder = clips.write_clips(tmp_path / "videos", 1)
    monkeypatch.setattr("vidlatent.jobs.cache.budget.needed_bytes", lambda *_, **__: 1 << 50)
    clips.cache(folder, tmp_path / "cache", replace(clips.ONE, max_memory=64 << 30))
    (row,) = clips.rows(tmp_path / "cache")
    assert row.status == "failed" and "--max-memory leaves" in row.error


def test_a_limit_below_the_processes_themselves_is_refused(tmp_path):
    with pytest.raises(OutOfResources, match=r"^max_memory "):
        clips.cache(clips.write_clips(tmp_path / "videos", 1), tmp_path / "cache", RunOptions(1, 1 << 20))


def test_a_folder_with_other_things_is_no_place_for_a_cache(tmp_path):
    folder = clips.write_clips(tmp_path / "videos", 1)
    with pytest.raises(UsageError, match=r"holds other things \(clip0\.avi\)"):
        clips.cache(folder, folder)


@pytest.mark.usefixtures("processes_as_in_real_life")
def test_a_worker_ends_with_its_parent(tmp_path):
    worker = Worker()
    clip = clips.write_clip(tmp_path / "clip.avi", 1)
    from vidlatent.jobs.reading.survey import Look

    list(worker.ask(Look(DiskSource(clip))))
    worker._process.stdin.close()
    assert worker._process.wait(timeout=20) == 0
    worker.kill()


STARVED = """
from vidlatent.io.read.libav import LibavSource

def frames(self, read=LibavSource.frames):
    if "clip1" in self._path:
        raise MemoryError
    return read(self)

LibavSource.frames = frames
"""


def test_an_entry_is_finished_while_the_next_clip_is_encoded(tmp_path, monkeypatch):
    next_began, really_close, really_encode = threading.Event(), Encoded.close, encode_entry

    def close(encoded):
        assert "clip1" in encoded.task.clip.name or next_began.wait(30)
        really_close(encoded)

    def begin(video, task, *rest):
        if "clip1" in task.clip.name:
            next_began.set()
        return really_encode(video, task, *rest)

    monkeypatch.setattr(Encoded, "close", close)
    monkeypatch.setattr("vidlatent.jobs.cache.maker.encode_entry", begin)
    assert clips.cache(clips.write_clips(tmp_path / "videos", 2), tmp_path / "cache").done == 2


@pytest.mark.parametrize(
    "wish", [{"first_frame": True}, {"measure": True}], ids=lambda wish: next(iter(wish))
)
def test_an_entry_for_which_the_network_has_more_to_do_is_finished_in_turn(tmp_path, monkeypatch, wish):
    threads, really_close = [], Encoded.close

    def close(encoded):
        threads.append(threading.current_thread())
        really_close(encoded)

    monkeypatch.setattr(Encoded, "close", close)
    assert clips.cache(clips.write_clips(tmp_path / "videos", 1), tmp_path / "cache", **wish).done == 1
    assert threads == [threading.main_thread()]


def test_an_entry_that_the_system_does_not_let_be_read_ends_the_run(tmp_path, monkeypatch):
    """It is written, so its clip is not to blame, and is no clip that failed."""

    def refuse(path, *_):
        with naming_read_errors(path):
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(entry, "open_latent", refuse)
    with pytest.raises(OutOfResources, match=r"is written, but cannot be read \(Permission denied\)"):
        clips.cache(clips.write_clips(tmp_path / "videos", 2), tmp_path / "cache")
    assert not clips.rows(tmp_path / "cache")


def test_an_error_of_the_disk_while_an_entry_is_finished_ends_the_run(tmp_path, monkeypatch):
    def fail(encoded):
        encoded.writer.discard()
        raise OutOfResources("disk full")

    monkeypatch.setattr(Encoded, "close", fail)
    with pytest.raises(OutOfResources, match="disk full"):
        clips.cache(clips.write_clips(tmp_path / "videos", 2), tmp_path / "cache")
    assert not clips.rows(tmp_path / "cache") and not clips.objects(tmp_path / "cache")


def test_too_little_memory_for_one_clip_is_a_failed_row(tmp_path, monkeypatch):
    """In the process that reads, or for the network, on a CPU where PyTorch has a sentence of its own."""
    folder = clips.write_clips(tmp_path / "videos", 3)
    (tmp_path / "sitecustomize.py").write_text(STARVED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    real = encode_entry

    def starved(video, task, *rest):
        if "clip2" in task.clip.name:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")
        return real(video, task, *rest)

    monkeypatch.setattr("vidlatent.jobs.cache.maker.encode_entry", starved)
    tally = clips.cache(folder, tmp_path / "cache")
    assert (tally.done, tally.failed) == (1, 2)
    errors = {Path(row.source).stem: row.error for row in clips.rows(tmp_path / "cache")}
    assert (
        "reading it takes more memory than there is" in errors["clip1"] and "out of memory" in errors["clip2"]
    )


def test_whatever_is_wrong_in_a_folder_the_good_clips_are_made(tmp_path):
    folder = clips.write_clips(tmp_path / "videos", 2)
    clip = (folder / "clip0.avi").read_bytes()
    with tarfile.open(folder / "a.tar", "w") as tar:
        tar.add(folder / "clip0.avi", "./v1.0/same.avi")
        link = tarfile.TarInfo("v1.0/again.avi")
        link.type, link.linkname = tarfile.LNKTYPE, "v1.0/same.avi"
        tar.addfile(link)
        out = tarfile.TarInfo("passwd.avi")
        out.type, out.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(out)
    (folder / "torn.tar").write_bytes((folder / "a.tar").read_bytes()[: len(clip)])
    os.mkfifo(folder / "pipe.avi")
    (folder / "endless.avi").symlink_to("/dev/zero")
    (folder / "up").symlink_to(folder)
    tally = clips.cache(folder, tmp_path / "cache")
    found = {row.source.removeprefix(f"{folder}/"): row for row in clips.rows(tmp_path / "cache")}
    assert {name: row.status for name, row in found.items()} == {
        **dict.fromkeys(("clip0.avi", "clip1.avi", "a.tar::v1.0/same.avi", "a.tar::v1.0/again.avi"), "done"),
        **dict.fromkeys(("a.tar::passwd.avi", "torn.tar", "pipe.avi", "endless.avi"), "failed"),
        "up": "skipped",
    }
    assert (tally.done, tally.reused, tally.failed, tally.skipped) == (2, 2, 4, 1)
    assert (
        "a pipe or a device" in found["pipe.avi"].error and "not followed" in found["a.tar::passwd.avi"].error
    )
    assert clips.cache(folder, tmp_path / "cache").done == 0


def test_sigterm_is_obeyed_while_a_film_is_hashed(tmp_path, monkeypatch):
    folder = clips.write_clips(tmp_path / "videos", 2)
    (tmp_path / "sitecustomize.py").write_text(
        "import time\nfrom vidlatent.io.sources.disk import DiskSource\n"
        "DiskSource.sha256 = lambda self, beat: time.sleep(60)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    threading.Timer(2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    began = time.monotonic()
    tally = clips.cache(folder, tmp_path / "cache")
    assert tally.stopped and not tally.accounted_for
    assert time.monotonic() - began < 30
