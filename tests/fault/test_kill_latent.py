"""A killed process leaves no file under the name, only clearly named partials, and the next run is whole."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import warm

from vidlatent.clock import FrameClock
from vidlatent.errors import BadLatentFile
from vidlatent.files import partial_path
from vidlatent.grid import Grid
from vidlatent.io.latent.header import LatentHeader, Source
from vidlatent.io.latent.reader import open_latent
from vidlatent.io.latent.writer import LatentWriter
from vidlatent.windows import Plan, TimeRule


def write_clip(path: Path, half_way: Callable[[], object] = lambda: None) -> None:
    """Write latents and logvar [9, 4, 16, 16], with a pause after the fifth."""
    header = LatentHeader(
        *("toy", "", {}, Grid(4, 8), Plan(TimeRule(32, 1), TimeRule(15, 1))),
        source=Source("clip.mp4", 33, 128, 128),
        posterior="full",
    )
    latents = torch.arange(9 * 4 * 16 * 16.0).view(9, 4, 16, 16)
    with LatentWriter(path, header, 4, 16, 16, "F32", with_logvar=True) as writer:
        writer.append(latents[:5], -latents[:5])
        half_way()
        writer.append(latents[5:], -latents[5:])
        writer.close(FrameClock(Fraction(1, 30), np.arange(33)))


def pause() -> None:
    """Say that half is written, then wait for whatever comes."""
    print("half", flush=True)
    sys.stdin.read()


def another_process_half_way(path: Path) -> subprocess.Popen:
    """A process of its own that has written half of the clip, and waits."""
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    program = warm.Process([__file__, path], **streams)
    assert program.stdout.readline() == b"half\n", program.stderr.read().decode()
    return program


def test_a_kill_keeps_the_old_file_and_the_next_run_replaces_what_it_left(tmp_path: Path):
    path, undisturbed = tmp_path / "clip.latent", tmp_path / "undisturbed.latent"
    path.write_bytes(b"old")
    with another_process_half_way(path) as program:
        program.kill()
    assert path.read_bytes() == b"old"
    partials = [".clip.latent.logvar.partial", ".clip.latent.partial"]
    assert sorted(os.listdir(tmp_path)) == [*partials, "clip.latent"]
    with pytest.raises(BadLatentFile, match="unfinished file: its header was never written"):
        open_latent(partial_path(path))

    write_clip(path)
    write_clip(undisturbed)
    assert sorted(os.listdir(tmp_path)) == ["clip.latent", "undisturbed.latent"]
    assert path.read_bytes() == undisturbed.read_bytes()


def test_ctrl_c_leaves_nothing(tmp_path: Path):
    with another_process_half_way(tmp_path / "clip.latent") as program:
        program.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in program.stderr.read()
    assert os.listdir(tmp_path) == []


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell starts us deaf to it
    write_clip(Path(sys.argv[1]), pause)
