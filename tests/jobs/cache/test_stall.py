"""A codec or a disk that hangs costs one clip, not the run."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import cache_clips as clips

from vidlatent.errors import BadVideo
from vidlatent.io.read.source import ReadOptions
from vidlatent.io.sources.disk import DiskSource
from vidlatent.jobs.reading import process
from vidlatent.jobs.reading.messages import Read
from vidlatent.jobs.reading.process import Watchdog, Worker
from vidlatent.jobs.reading.readers import Readers
from vidlatent.jobs.reading.remote_video import RemoteVideo
from vidlatent.jobs.reading.survey import Look
from vidlatent.jobs.reading.worker import ALIVE_EVERY_S, Pulse

pytestmark = pytest.mark.usefixtures("processes_as_in_real_life")
STALL_S = 2.0  # longer than a small clip takes to open, also on a busy machine


def question(path) -> Read:
    return Read(DiskSource(path), ReadOptions())


def test_a_reader_that_hangs_is_a_failed_row_and_the_run_goes_on(tmp_path, monkeypatch):
    folder = clips.write_clips(tmp_path / "videos", 3)
    clips.write_clip(folder / "clip1.avi", 1, frames=60, size=(128, 128))  # more than a pipe holds
    monkeypatch.setattr("vidlatent.jobs.cache.budget.QUEUE_BYTES", 1)  # so most of it is still to be read
    opened = RemoteVideo.__enter__

    def hung(video: RemoteVideo) -> RemoteVideo:
        opened(video)
        if "clip1" in video._question.source.name:
            os.kill(video._worker.pid, signal.SIGSTOP)
        return video

    monkeypatch.setattr(RemoteVideo, "__enter__", hung)
    tally = clips.cache(folder, tmp_path / "cache", replace(clips.ONE, stall_timeout=STALL_S))
    assert (tally.done, tally.failed) == (2, 1)
    (failed,) = [row for row in clips.rows(tmp_path / "cache") if row.status == "failed"]
    assert "clip1.avi: reading it made no progress for 2 s, and was given up" in failed.error


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_file_that_cannot_even_be_opened_is_given_up(tmp_path):
    folder = clips.write_clips(tmp_path / "videos", 2)
    os.mkfifo(folder / "clip0a.avi")  # whoever opens it waits for a writer
    tally = clips.cache(folder, tmp_path / "cache", replace(clips.ONE, stall_timeout=STALL_S))
    assert (tally.done, tally.failed) == (2, 1)


class Mute:
    """A worker that says nothing."""

    def __init__(self) -> None:
        self.listening, self.heard = False, 0
        self.given_up = threading.Event()

    def give_up(self, stall_timeout: float, stopping: bool = False) -> None:
        """Remember it."""
        self.given_up.set()


def test_only_a_worker_that_somebody_waits_for_is_overdue():
    """One that waits for the model to take its frames is silent, too."""
    worker = Mute()
    watchdog = Watchdog([worker], 0.1)
    try:
        assert not worker.given_up.wait(0.6)
        worker.listening = True
        assert worker.given_up.wait(20)
    finally:
        watchdog.stop()


def test_a_worker_that_hangs_is_given_up_soon_once_the_run_is_to_end(monkeypatch):
    """A run whose reader hung ended on SIGTERM after the whole --stall-timeout, or never."""
    monkeypatch.setattr(process, "STOPPING_S", 0.1)
    worker, stop = Mute(), threading.Event()
    worker.listening = True
    watchdog = Watchdog([worker], 0, stop.is_set)
    try:
        assert not worker.given_up.wait(0.3), "0 waits for ever"
        stop.set()
        assert worker.given_up.wait(20)
    finally:
        watchdog.stop()


def test_a_clip_that_is_abandoned_so_is_not_to_blame():
    worker = process.Worker()
    worker._stalled_s, worker._stopping = 5.0, True
    died = worker._died(
        SimpleNamespace(wait=lambda: -signal.SIGKILL),
        SimpleNamespace(source=SimpleNamespace(name="a.mp4")),
        0,
    )
    assert isinstance(died, process.Abandoned)


def test_without_a_timeout_nobody_watches(tmp_path):
    clip = clips.write_clip(tmp_path / "clip.avi", 1, frames=60, size=(128, 128))
    with Readers(1, 1) as readers:
        for _, video in readers.videos([clip], question):
            with video:
                os.kill(video._worker.pid, signal.SIGSTOP)
                time.sleep(1)
                os.kill(video._worker.pid, signal.SIGCONT)
                assert sum(1 for _ in video.frames()) == 60


def test_a_worker_serves_again_after_it_was_given_up(tmp_path):
    clip = clips.write_clip(tmp_path / "clip.avi", 1, frames=60, size=(128, 128))
    with Readers(1, 1, STALL_S) as readers:
        for _, video in readers.videos([clip], question):
            with pytest.raises(BadVideo, match="made no progress"), video:
                os.kill(video._worker.pid, signal.SIGSTOP)
                list(video.frames())
        ((_, seen),) = readers.looks([DiskSource(clip)], Look)
    assert seen.sha256


def test_a_long_file_that_is_hashed_is_a_sign_of_life(tmp_path, monkeypatch):
    path = tmp_path / "film.avi"
    path.write_bytes(bytes(5 << 20))
    beats = []
    assert len(DiskSource(path).sha256(lambda: beats.append(1))) == 64 and len(beats) == 5
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with (tmp_path / "out").open("wb") as out:
        pulse = Pulse(out)
        pulse()
        assert out.tell() == 0
        now[0] += 1.5 * ALIVE_EVERY_S
        pulse()
        assert out.tell() > 0


def test_a_process_that_only_reads_loads_no_torch(tmp_path):
    """It would cost 200 MB each: frames that need no scaling, and scouts, do without."""
    clip = clips.write_clip(tmp_path / "clip.avi", 1)
    code = (
        "import sys; from pathlib import Path; from vidlatent.jobs.reading import worker, messages, survey\n"
        "from vidlatent.io.read.source import ReadOptions; from vidlatent.io.sources.disk import DiskSource\n"
        f"source = DiskSource(Path({str(clip)!r}))\n"
        "for ask in (survey.Look(source), messages.Read(source, ReadOptions())):\n"
        "    kinds = [type(answer) for answer, _ in worker.answer(ask, lambda: None)]\n"
        "    assert messages.Failure not in kinds\n"
        "print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends children with their parent")
def test_a_reader_that_hangs_ends_with_a_parent_that_is_killed(tmp_path):
    """A codec that never comes back never notices that nobody listens any more."""
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from vidlatent.jobs.reading.process import Worker; from vidlatent.jobs.reading.survey import Look\n"
        "from vidlatent.io.sources.disk import DiskSource\n"
        "worker = Worker(); list(worker.ask(Look(DiskSource(Path('nothing')))))\n"
        "os.kill(worker.pid, signal.SIGSTOP); print(worker.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        reader = int(run.stdout.readline())
        assert is_running(reader)
        run.kill()
        run.wait()
    deadline = time.monotonic() + 20
    while is_running(reader) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(reader)


def test_a_reader_outlives_the_thread_that_asked_first(tmp_path):
    """Linux ends a child with the thread that started it, and threads that ask come and go."""
    ask, worker, answers = Look(DiskSource(clips.write_clip(tmp_path / "clip.avi", 1))), Worker(), []
    for _ in range(2):
        thread = threading.Thread(target=lambda: answers.append((worker.pid, list(worker.ask(ask)))))
        thread.start()
        thread.join()
    assert worker.pid == answers[1][0] and answers[0][1][-1][0].sha256 == answers[1][1][-1][0].sha256
    worker.kill()
