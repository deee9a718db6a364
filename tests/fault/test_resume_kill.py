"""Killed at any moment and gone on with, an encoding gives byte for byte what an undisturbed one gives."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.random_models import random_model

from vidlatent.io.latent.writer import LatentWriter
from vidlatent.io.write.images import encode_image
from vidlatent.jobs.encode import EncodeOptions, encode

SECONDS = 60
FRAMES = 150
PAUSE_S = 0.01  # at every window, so that moments to kill at are many


def write_frames(folder: Path, frames: np.ndarray) -> Path:
    """A folder of images."""
    folder.mkdir()
    for n, frame in enumerate(frames):
        (folder / f"{n:04d}.png").write_bytes(encode_image(frame))
    return folder


def lines_of(target: Path) -> int:
    """How many lines the journal of an unfinished file has."""
    journal = target.with_name(f".{target.name}.journal.partial")
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def run_and_kill(work, lines: int, target: Path, delay_s: float) -> None:
    """Do `work` in a process that is killed a moment after the journal of `target` has so many lines."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    deadline = time.monotonic() + SECONDS
    while lines_of(target) < lines and not target.exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(delay_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def main(source: str, folder: str, kind: str, posterior: str, seed: str, kills: str) -> None:
    """Encode once undisturbed, and once killed so often; print how far each killed run had come."""
    torch.set_num_threads(1)  # and no other thread lives when this process forks
    model, target, dice = random_model(kind), Path(folder, "killed.latent"), random.Random(int(seed))
    write = LatentWriter.append

    def append(self, *latents):
        time.sleep(PAUSE_S)
        write(self, *latents)

    LatentWriter.append = append
    options = EncodeOptions(posterior=posterior, resume=True, force=True)
    windows = FRAMES // model.spec.plan.encode_time.stride
    for lines in sorted(dice.randrange(1, windows - 3) for _ in range(int(kills))):
        work = partial(encode, source, target, model, options)
        run_and_kill(work, lines, target, dice.uniform(0, 3 * PAUSE_S))
    notices = encode(source, target, model, options).notices
    encode(source, Path(folder, "undisturbed.latent"), model, EncodeOptions(posterior=posterior))
    print(json.dumps(notices))


SLOW = [pytest.param(*each, 20, marks=pytest.mark.slow) for each in (("wf", "sample"), ("pocket", "mode"))]


@pytest.mark.parametrize(("kind", "posterior", "kills"), [("pocket", "full", 3), *SLOW])
def test_killed_and_gone_on_with_it_is_the_file_of_an_undisturbed_run(
    tmp_path, moving_clip, kind, posterior, kills
):
    source = write_frames(tmp_path / "clip", moving_clip(FRAMES, 16, 24))
    words = [sys.executable, __file__, source, tmp_path, kind, posterior, "1", str(kills)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(words, stdout=subprocess.PIPE, check=True, timeout=10 * SECONDS, env=env)
    assert (tmp_path / "killed.latent").read_bytes() == (tmp_path / "undisturbed.latent").read_bytes()
    assert any("latents of an earlier run are kept" in notice for notice in json.loads(told.stdout))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", "killed.latent", "undisturbed.latent"]


if __name__ == "__main__":
    main(*sys.argv[1:])
