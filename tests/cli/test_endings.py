"""How a command ends that is interrupted, or whose output nobody can take."""

import errno
import io
import signal
import sys

import pytest

from vidlatent.__main__ import start
from vidlatent.cli import app, bench
from vidlatent.errors import UsageError
from vidlatent.jobs import inspect
from vidlatent.jobs.measure import compare
from vidlatent.jobs.report import files


def test_ctrl_c_says_what_it_left_behind(vidlatent, monkeypatch, tmp_path):
    """Typer made an exit code of it, and the sentence was never said."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(inspect, "inspect", interrupt)
    run = vidlatent("inspect", tmp_path)
    assert run.code == 130 and "interrupted: nothing was written under the target's name" in run.err


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_request_to_end_is_an_error_that_cleans_up(name, code):
    number = getattr(signal, name)
    before = {one: signal.signal(one, signal.SIG_DFL) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        app.listen_to_endings()
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(number)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert ended.value.code == code


def test_a_request_to_end_says_what_it_left_behind(vidlatent, monkeypatch, tmp_path):
    monkeypatch.setattr(inspect, "inspect", lambda *_: sys.exit(143))
    run = vidlatent("inspect", tmp_path)
    assert run.code == 143 and "ended by SIGTERM: nothing was written under the target's name" in run.err


def test_nohup_stays_deaf():
    before = {one: signal.signal(one, signal.SIG_IGN) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        app.listen_to_endings()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


class Full(io.StringIO):
    """A disk without room: like `> /dev/full`."""

    def flush(self) -> None:
        """Refuse."""
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_stdout_is_told(vidlatent, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Full())
    assert app.run(["models", "show", "toy", "--json"]) == 5


def test_a_closed_stdout_is_told(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    app.open_closed_streams()
    assert app.run(["models", "show", "toy", "--json"]) == 5
    assert "error: stdout: is closed" in capsys.readouterr().err


def test_a_bench_whose_report_cannot_be_written_keeps_its_rows(vidlatent, monkeypatch, little_clip, tmp_path):
    """Hours of measuring were lost where the report's folder was not there."""

    def refuse(*_: object) -> None:
        raise UsageError("r.json: cannot be written")

    monkeypatch.setattr(files, "write_report", refuse)
    words = ["bench", little_clip, "-m", "toy", "--device", "cpu", "--runs", "1", "--metrics", "psnr"]
    run = vidlatent(*words, "--report", tmp_path / "r.json")
    run.failed(2, "finished rows are kept in", "--resume")
    assert "toy" in run.out, "what was measured is printed"
    (kept,) = tmp_path.glob(".r.json.*.jsonl")
    assert kept.read_text().count("\n") == 1
    monkeypatch.undo()
    assert vidlatent(*words, "--report", tmp_path / "r.json").code == 0
    assert list(tmp_path.glob(".r.json.*.jsonl")) == [kept], "what was written needs no journal"


def test_a_bench_is_journalled_unless_it_looks_at_all_clips_together(tmp_path):
    with bench.WriteFlags(resume=None, report=[tmp_path / "r.md"]).journal_for(("psnr", "fvd")) as journal:
        assert journal is None


def test_a_comparison_whose_report_cannot_be_written_is_kept(vidlatent, monkeypatch, little_clip, tmp_path):
    def refuse(*_: object) -> None:
        raise UsageError("r.json: cannot be written")

    words = ["compare", little_clip, little_clip, "--metrics", "psnr", "--report", tmp_path / "r.json"]
    monkeypatch.setattr(files, "write_report", refuse)
    vidlatent(*words).failed(2, "finished rows are kept in", "--resume")
    (kept,) = tmp_path.glob(".r.json.*.jsonl")
    monkeypatch.undo()
    monkeypatch.setattr(compare, "measure_pair", lambda *_: pytest.fail("it was measured again"))
    assert vidlatent(*words, "--resume", kept).code == 0
    assert '"psnr"' in (tmp_path / "r.json").read_text() and kept.exists()


def test_ctrl_c_while_the_command_line_is_imported_is_told(monkeypatch, capsys):
    class Interrupting:
        """A module whose import the user interrupts."""

        def __getattr__(self, name: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "vidlatent.cli.app", Interrupting())
    with pytest.raises(SystemExit) as ended:
        start()
    assert ended.value.code == 130 and "interrupted: nothing has begun" in capsys.readouterr().err
