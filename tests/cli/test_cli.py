"""What a person meets on the command line: words, streams, exit codes, and nothing half-written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest
from helpers import warm

from vidlatent.cli import app

HELP_S = 0.3  # of processor time, so that a busy machine does not fail the test
SMALL = ["--size", "64x48", "--frames", "9"]


def process(*words: object, **options) -> subprocess.CompletedProcess:
    """Runs the command line in a process of its own."""
    command = [sys.executable, "-m", "vidlatent", *map(str, words)]
    return subprocess.run(command, capture_output=True, check=False, **options)


@pytest.fixture(scope="module")
def latent(tmp_path_factory, sample) -> Path:
    path = tmp_path_factory.mktemp("latent") / "s.latent"
    assert app.run(["encode", str(sample), "-o", str(path), "-m", "toy", *SMALL]) == 0
    return path


def test_help_answers_at_once():
    before = os.times()
    run = process("--help", text=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    assert run.returncode == 0 and "encode" in run.stdout
    assert used < HELP_S


@pytest.mark.parametrize("command", ["encode", "decode", "peek", "inspect", "models list", "models pull"])
def test_every_command_ends_its_help_with_an_example(vidlatent, command):
    run = vidlatent(*command.split(), "--help")
    assert run.code == 0
    assert run.out.rstrip().splitlines()[-1].strip().startswith("Example: vidlatent")


@pytest.mark.parametrize("group", ["", "cache", "models"])
def test_lists_of_commands_cut_no_sentence_short(vidlatent, monkeypatch, group):
    monkeypatch.setenv("COLUMNS", "80")
    said = vidlatent(*group.split(), "--help").out
    assert "Commands:" in said and "..." not in said.replace("[ARGS]...", "")


def test_round_trip_prints_json_on_stdout_alone(vidlatent, sample, tmp_path):
    run = vidlatent("encode", sample, "-o", tmp_path / "s.latent", "-m", "toy", "--json", *SMALL)
    assert json.loads(run.out)["frames"] == 9
    run = vidlatent("decode", tmp_path / "s.latent", "-o", tmp_path / "s.mp4", "--json")
    assert json.loads(run.out)["frames"] == 9
    run = vidlatent("inspect", tmp_path / "s.mp4", "--verify", "--json")
    assert json.loads(run.out)["counted"]["frames"] == 9


def test_several_inputs_go_into_a_folder_and_one_failure_spares_the_rest(vidlatent, sample, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film" * 100)
    run = vidlatent("encode", broken, sample, "-o", f"{tmp_path}/out/", "-m", "toy", *SMALL)
    run.failed(1, "broken.mp4")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["sample.latent"]


def test_two_inputs_of_one_name_are_not_written_over_each_other(vidlatent, sample, tmp_path):
    other = tmp_path / "sample.mov"
    other.write_bytes(sample.read_bytes())
    vidlatent("encode", sample, other, "-o", f"{tmp_path}/out/", "-m", "toy").failed(2, "both become")


def test_y4m_goes_down_a_pipe(latent):
    command = [sys.executable, "-m", "vidlatent", "decode", str(latent), "-o", "-"]
    run = subprocess.run(command, capture_output=True, check=True)
    assert run.stdout.startswith(b"YUV4MPEG2 W64 H48")
    assert run.stdout.count(b"FRAME") == 9


def test_output_that_exists_needs_force(vidlatent, sample, latent, tmp_path):
    target = tmp_path / "s.latent"
    target.write_bytes(precious := latent.read_bytes())
    vidlatent("encode", sample, "-o", target, "-m", "toy", *SMALL).failed(2, "exists already", "--force")
    assert target.read_bytes() == precious
    assert vidlatent("encode", sample, "-o", target, "-m", "toy", "--force", "--frames", "5").code == 0
    assert target.read_bytes() != precious
    vidlatent("decode", latent, "-o", target).failed(2, "exists already")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"this is no video at all" * 50, "broken.mp4"), (None, "no such file")],
)
def test_what_is_no_video_is_bad_input(vidlatent, tmp_path, content, words):
    path = tmp_path / "broken.mp4"
    if content is not None:
        path.write_bytes(content)
    vidlatent("encode", path, "-o", tmp_path / "x.latent", "-m", "toy").failed(3, words)
    assert not list(tmp_path.glob("*.latent"))


def test_a_truncated_video_names_the_frame_and_is_kept_on_request(vidlatent, sample, tmp_path):
    with av.open(str(sample)) as source, av.open(str(tmp_path / "t.mkv"), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = copy
                target.mux(packet)
    path = tmp_path / "t.mkv"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    size = ["--size", "64x48"]
    vidlatent("encode", path, "-o", tmp_path / "x.latent", "-m", "toy", *size).failed(3, "frame")
    run = vidlatent("encode", path, "-o", tmp_path / "x.latent", "-m", "toy", "--allow-truncated", *size)
    assert run.code == 0 and "note:" in run.err


def test_unknown_model_asks_what_was_meant(vidlatent, sample, tmp_path):
    run = vidlatent("encode", sample, "-o", tmp_path / "x.latent", "-m", "od-vae-1.3")
    run.failed(2, "od-vae-1.3", "did you mean od-vae-1.2?")


@pytest.mark.parametrize(
    "wrong",
    [
        ["--window", "16"],
        ["--tile", "100"],
        ["--overlap", "0.5"],
        ["--size", "big"],
        ["--start", "noon"],
        ["--fps", "0"],
        ["--audio", "loud"],
        ["--dtype", "fp13"],
        ["--device", "abacus"],
        ["--max-memory", "lots"],
        ["--posterior", "most"],
        ["--store", "int3"],
    ],
    ids=lambda w: w[0],
)
def test_wrong_flags_are_usage_errors(vidlatent, sample, tmp_path, wrong):
    run = vidlatent("encode", sample, "-o", tmp_path / "x.latent", "-m", "toy", *wrong)
    run.failed(2, wrong[0])


@pytest.mark.parametrize("damage", ["cut", "flip", "foreign"])
def test_broken_latents_are_bad_input(vidlatent, latent, tmp_path, damage):
    path, data = tmp_path / "b.latent", bytearray(latent.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "flip":
        data[len(data) // 2] ^= 64
    else:
        data = bytearray(b"PK\x03\x04" + bytes(1000))
    path.write_bytes(data)
    vidlatent("inspect", path, "--verify").failed(3, "b.latent")


def test_a_folder_that_may_not_be_written_is_a_usage_error(vidlatent, sample, tmp_path):
    run = vidlatent("encode", sample, "-o", tmp_path / "no/such/x.latent", "-m", "toy")
    run.failed(2, "cannot be written")


def test_a_full_disk_is_told_and_leaves_nothing(vidlatent, sample, tmp_path, file_size_limit):
    """A limit on file sizes refuses writes as a full disk does."""
    with file_size_limit(1 << 20):
        run = vidlatent("encode", sample, "-o", tmp_path / "x.latent", "-m", "toy", "--size", "320x240")
    run.failed(5, "x.latent", "disk full")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("interruption", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_under_the_target_name(sample, tmp_path, interruption):
    command = ["-m", "vidlatent", "encode", sample, "-o", "x.latent"]
    heard = signal.signal(interruption, signal.default_int_handler)  # a child inherits what is ignored
    with warm.Process(command, cwd=tmp_path, stderr=subprocess.PIPE) as run:
        signal.signal(interruption, heard)
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".x.latent*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        run.send_signal(interruption)
        run.wait(60)
    assert run.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[interruption]
    assert not list(tmp_path.iterdir())


def test_max_memory_that_cannot_be_kept_says_what_would_do(vidlatent, sample, tmp_path):
    run = vidlatent("encode", sample, "-o", tmp_path / "x.latent", "--max-memory", "64M")
    run.failed(5, "does not fit", "needs about")


def test_models_are_listed_and_shown(vidlatent):
    rows = json.loads(vidlatent("models", "list", "--json").out)
    assert {"pocket", "od-vae-1.2"} <= {row["name"] for row in rows}
    facts = json.loads(vidlatent("models", "show", "od-vae-1.2", "--json").out)
    assert facts["parameters"] == 239_189_991
