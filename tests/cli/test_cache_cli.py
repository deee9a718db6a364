"""`vidlatent cache …` as a person meets it."""

import errno
import io
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import cache_clips as clips
from helpers.buckets import new_bucket, read_all
from helpers.hanging import hang

from vidlatent.cli import app, cache_progress
from vidlatent.jobs.cache.claims import Claim
from vidlatent.jobs.cache.store import Store
from vidlatent.jobs.cache.tally import Tally


@pytest.fixture
def videos(tmp_path) -> Path:
    return clips.write_clips(tmp_path / "videos", 2)


TOY = ("-m", "toy", "--device", "cpu", "--workers", 1)


def test_the_verb_may_be_left_out(vidlatent, videos, tmp_path):
    result = vidlatent("cache", videos, "-o", tmp_path / "cache", *TOY, "--json")
    assert result.code == 0 and json.loads(result.out)["done"] == 2
    assert "2 made, 0 there already" in result.err
    again = vidlatent("cache", "run", "-o", tmp_path / "cache", *TOY, videos)
    assert again.code == 0 and "0 made, 2 there already" in again.err


def test_a_cache_may_lie_in_a_store(vidlatent, videos):
    root = f"{new_bucket('cli')}/cache"
    plan = json.loads(vidlatent("cache", videos, "-o", root, *TOY, "--dry-run", "--json").out)
    assert plan["to_do"] == 2 and not read_all(root)
    assert vidlatent("cache", videos, "-o", root, *TOY).code == 0
    assert json.loads(vidlatent("cache", "status", root, "--json").out)["entries"] == 2
    checked = vidlatent("cache", "verify", root)
    assert checked.code == 0 and f"{root}: 2 entries checked, 0 damaged" in checked.err
    assert "2 there already" in vidlatent("cache", videos, "-o", root, *TOY).err
    assert "in a store, and `cache gc` is for disks" in vidlatent("cache", "gc", root).err
    refused = vidlatent("cache", videos, "-o", "https://a.org/cache", *TOY)
    assert refused.code == 2 and "no store that a cache can lie in" in refused.err


def test_failures_decide_over_the_exit_code(vidlatent, videos, tmp_path):
    (videos / "broken.mp4").write_text("no video")
    command = ("cache", videos, "-o", tmp_path / "cache", *TOY)
    assert vidlatent(*command).code == 1
    assert vidlatent(*command, "--max-failures", 1).code == 0
    status = vidlatent("cache", "status", tmp_path / "cache")
    assert status.code == 0 and "broken.mp4: not a video" in status.err
    facts = json.loads(vidlatent("cache", "status", tmp_path / "cache", "--json").out)
    assert (facts["clips"], facts["done"], facts["failed"], facts["entries"]) == (3, 2, 1, 2)


def test_a_dry_run_tells_what_would_be_done_and_does_nothing(vidlatent, videos, tmp_path):
    (videos / "broken.mp4").write_text("no video")
    (videos / "notes.txt").write_text("words")
    root = tmp_path / "cache"
    plan = json.loads(vidlatent("cache", videos, "-o", root, *TOY, "--dry-run", "--json").out)
    assert not root.exists()
    assert {k: plan[k] for k in ("files", "clips", "skipped", "unreadable", "to_do", "cached")} == {
        "files": 4, "clips": 3, "skipped": 1, "unreadable": 1, "to_do": 2, "cached": 0,
    }  # fmt: skip
    vidlatent("cache", videos, "-o", root, *TOY)
    made = [row for row in clips.rows(root) if row.status == "done"]
    assert plan["frames"] == sum(row.frames for row in made)
    latents = sum(4 * row.shape[0] * row.shape[1] * row.shape[2] * row.shape[3] for row in made)
    assert plan["bytes"] == latents and plan["seconds"] > 0
    after = json.loads(vidlatent("cache", videos, "-o", root, *TOY, "--dry-run", "--json").out)
    assert (after["cached"], after["to_do"], after["bytes"]) == (2, 0, 0)


def test_verify_finds_a_flipped_bit_and_the_next_run_mends_it(vidlatent, videos, tmp_path):
    root = tmp_path / "cache"
    vidlatent("cache", videos, "-o", root, *TOY)
    before = clips.objects(root)
    victim = root / next(iter(before))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    found = vidlatent("cache", "verify", root, "--json")
    assert found.code == 1 and "does not match its checksum" in found.err
    assert json.loads(found.out)["damaged"][0]["key"] == victim.stem
    assert "1 made, 1 there already" in vidlatent("cache", videos, "-o", root, *TOY).err
    assert clips.objects(root) == before and vidlatent("cache", "verify", root).code == 0


def test_verify_decodes_a_sample_and_says_how_good_it_is(vidlatent, videos, tmp_path):
    root = tmp_path / "cache"
    vidlatent("cache", videos, "-o", root, *TOY, "--frames", 4, "--frames-rule", "pad")
    result = vidlatent("cache", "verify", root, "--decode", 5, "--device", "cpu", "--json")
    replays = json.loads(result.out)["decoded"]
    assert result.code == 0 and len(replays) == 2
    assert all(replay["identical"] and replay["frames"] == 4 for replay in replays)


def test_gc_removes_nothing_unasked_and_only_what_nobody_knows(vidlatent, videos, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    root = tmp_path / "cache"
    vidlatent("cache", videos, "-o", root, *TOY)
    kept = clips.objects(root)
    orphan = Store(root).entry_path("f" * 64)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"x" * 10)
    partial = orphan.with_name(".abc.latent.partial")
    partial.write_bytes(b"x")
    (root / "claims" / "abc").touch()
    stranger = root / "objects" / "notes.txt"
    stranger.write_text("mine")
    silent = vidlatent("cache", "gc", root)  # nobody is there to say yes
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    refused = vidlatent("cache", "gc", root)
    assert (silent.code, refused.code) == (2, 1) and orphan.exists() and partial.exists()
    assert all("nothing was removed" in run.err for run in (silent, refused))
    result = vidlatent("cache", "gc", root, "--yes")
    assert result.code == 0 and "no row of the manifest knows it" in result.err
    assert stranger.exists() and not any(p.exists() for p in (orphan, partial, root / "claims" / "abc"))
    assert {k: v for k, v in clips.objects(root).items() if k != "objects/notes.txt"} == kept


def test_gc_leaves_alone_what_another_process_is_making(vidlatent, videos, tmp_path):
    root = tmp_path / "cache"
    vidlatent("cache", videos, "-o", root, *TOY)
    partial = Store(root).entry_path("a" * 64).with_name(f".{'a' * 64}.latent.partial")
    partial.parent.mkdir(exist_ok=True)
    partial.write_bytes(b"x")
    with Claim.take(root / "claims" / ("a" * 64)):
        vidlatent("cache", "gc", root, "--yes")
        assert partial.exists()


def test_gc_of_superseded_entries_keeps_every_clip_that_is_still_wanted(vidlatent, videos, tmp_path):
    root = tmp_path / "cache"
    vidlatent("cache", videos, "-o", root, *TOY)
    vidlatent("cache", videos, "-o", root, *TOY, "--frames", 1)  # another recipe supersedes nothing
    clips.write_clip(videos / "clip0.avi", 99)
    os.utime(videos / "clip0.avi", (1e9, 1e9))
    vidlatent("cache", videos, "-o", root, *TOY)
    assert len(clips.objects(root)) == 5
    assert vidlatent("cache", "gc", root, "--yes").code == 0 and len(clips.objects(root)) == 5
    vidlatent("cache", "gc", root, "--superseded", "--yes")
    assert len(clips.objects(root)) == 4
    assert "0 made, 2 there already" in vidlatent("cache", videos, "-o", root, *TOY).err


def test_export_prints_its_files(vidlatent, videos, tmp_path):
    root = tmp_path / "cache"
    vidlatent("cache", videos, "-o", root, *TOY)
    result = vidlatent("cache", "export", root, "-o", tmp_path / "out", "--to", "comfyui")
    assert result.code == 0
    assert sorted(Path(line).name for line in result.out.split()) == ["clip0.latent", "clip1.latent"]


def test_export_for_a_trainer_that_needs_another_vae_writes_nothing(vidlatent, videos, tmp_path):
    root = tmp_path / "cache"
    vidlatent("cache", videos, "-o", root, *TOY)
    run = vidlatent("cache", "export", root, "-o", tmp_path / "out", "--for", "musubi:wan")
    run.failed(2, "--for musubi:wan: trains on latents of wan-2.1", "--model wan-2.1")
    run = vidlatent("cache", "export", root, "-o", tmp_path / "out", "--to", "musubi")
    run.failed(2, "--to musubi: which of its architectures?")
    run = vidlatent("cache", "export", root, "-o", tmp_path / "out")
    run.failed(2, "give one of --for TOOL[:ARCH] and --to TOOL[:ARCH]")
    assert not (tmp_path / "out").exists()


def test_export_names_the_tools_there_are(vidlatent, tmp_path):
    run = vidlatent("cache", "export", tmp_path, "-o", tmp_path / "out", "--to", "nobody")
    assert run.code == 2 and "--to nobody: unknown\nhint: one of comfyui, musubi, " in run.err


def test_a_folder_that_is_no_cache_is_refused(vidlatent, tmp_path):
    result = vidlatent("cache", "status", tmp_path)
    assert result.code == 3 and "not a latent cache" in result.err


def test_frames_and_sizes_are_told_in_words(vidlatent, videos, tmp_path):
    root = tmp_path / "cache"
    words = ("--frames", "5,9", "--take", "chunk", "--area", "32x32", "--bucket-step", 8, "--no-upscale")
    result = vidlatent("cache", videos, "-o", root, *TOY, *words)
    assert result.code == 0 and "2 made" in result.err
    assert sorted(row.frames for row in clips.rows(root)) == [5, 9]
    (folder := tmp_path / "short").mkdir()
    clips.write_clip(folder / "a.avi", 7, frames=4)
    left = vidlatent("cache", folder, "-o", root, *TOY, "--bucket", "32x32x5")
    assert left.code == 0 and "0 failed, 1 left out" in left.err
    said = f"{folder / 'a.avi'}: 4 frames, the shortest clip has 5"
    assert f"left out: {said}" in vidlatent("cache", "status", root).err
    facts = json.loads(vidlatent("cache", "status", root, "--json").out)
    assert [clip["reason"] for clip in facts["left_out"]] == [said]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--take", "chunk"), "--take chunk: of how many frames?"),
        (("--frames", "0"), "--frames 0: not numbers of frames"),
        (("--frames", "5", "--bucket", "32x32x5"), "both say how many"),
        (("--bucket", "36x32"), "--bucket 36x32: the model takes sides in steps of 8"),
        (("--frames-rule", "trim"), "--frames-rule trim: unknown"),
    ],
)
def test_words_that_make_no_sense_leave_nothing_behind(vidlatent, videos, tmp_path, words, said):
    result = vidlatent("cache", videos, "-o", tmp_path / "cache", *TOY, *words)
    assert result.code == 2 and said in result.err
    assert not (tmp_path / "cache").exists()


def test_a_part_that_slurm_chose_is_said(vidlatent, videos, tmp_path, monkeypatch):
    facts = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}
    for name, value in facts.items():
        monkeypatch.setenv(name, value)
    command = ("cache", videos, "-o", tmp_path / "cache", *TOY, "--json")
    result = vidlatent(*command)
    assert "note: part 1/2 of the clips, by SLURM's step (--shard 0/1: all clips)" in result.err
    assert json.loads(result.out)["clips"] == 1
    result = vidlatent(*command, "--shard", "0/1")
    assert "note: part" not in result.err and json.loads(result.out)["clips"] == 2


def test_ray_and_a_part_of_the_clips_exclude_each_other(vidlatent, videos, tmp_path):
    command = ("cache", videos, "-o", tmp_path / "cache", *TOY, "--engine", "ray", "--shard", "0/2")
    vidlatent(*command).failed(
        2, "--engine ray gives out all clips itself, not part 0/2", "leave --shard out"
    )


def test_who_waits_says_for_whom(capsys, monkeypatch):
    monkeypatch.setattr(cache_progress, "PLAIN_EVERY_S", -1.0)
    lines = cache_progress.ClipLines()
    lines.update(Tally(clips=4, done=1, waiting="/a.mp4, which process 7 on node3 is making"))
    said = capsys.readouterr().err
    assert said == "1 of 4 clips, waiting for /a.mp4, which process 7 on node3 is making\n"


def test_a_disk_that_fails_is_one_line_and_exit_5(vidlatent, videos, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "/somewhere")

    monkeypatch.setattr("vidlatent.jobs.cache.run.scan", fail)
    vidlatent("cache", videos, "-o", tmp_path / "cache", *TOY).failed(5, "/somewhere: Input/output error")


def test_a_system_without_threads_is_one_line_and_exit_5(vidlatent, videos, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", fail)
    vidlatent("cache", videos, "-o", tmp_path / "cache", *TOY).failed(5, "starts no more threads")


def test_a_cache_can_be_looked_at(vidlatent, videos, tmp_path):
    root, page = tmp_path / "cache", tmp_path / "report.html"
    vidlatent("cache", videos, "-o", root, *TOY, "--thumbnails", 2)
    result = vidlatent("cache", "report", root, "-o", page)
    assert result.code == 0 and result.out.split() == [str(page)]
    assert page.read_text().count("data:image/jpeg;base64,") == 2


@pytest.fixture
def listening() -> Iterator[None]:
    """SIGTERM ends a command of this process, and not the tests."""
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}
    app.listen_to_endings()
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


@pytest.mark.usefixtures("listening")
def test_sigterm_ends_a_run_whose_reader_hangs_and_is_told(vidlatent, monkeypatch, tmp_path):
    """Such as a table with a number of seconds that took hours to compute."""
    table = hang(monkeypatch, tmp_path / "t.csv")
    before, began = signal.getsignal(signal.SIGTERM), time.monotonic()

    def ask_to_end() -> None:
        while signal.getsignal(signal.SIGTERM) == before and time.monotonic() - began < 60:
            time.sleep(0.05)  # until the run listens itself
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask_to_end).start()
    run = vidlatent("cache", table, "-o", tmp_path / "cache", *TOY)
    assert run.code == 143 and "stopped as asked; the same command goes on where this ended" in run.err
    assert time.monotonic() - began < 50, "the table takes a minute"


def test_a_pipe_in_a_data_set_is_a_failed_row_and_not_waited_for(vidlatent, videos, tmp_path):
    os.mkfifo(videos / "pipe.avi")
    run = vidlatent("cache", videos, "-o", tmp_path / "cache", *TOY, "--stall-timeout", 0)
    assert run.code == 1 and "2 made, 0 there already, 0 no videos, 1 failed" in run.err
