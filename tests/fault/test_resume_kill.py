"""Killed at any moment and gone on with, a clip is encoded and decoded to the bytes of an undisturbed run."""

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
from helpers import warm
from helpers.random_models import random_model

from vidlatent.io.latent.writer import LatentWriter
from vidlatent.io.write.images import ImageSink, encode_image
from vidlatent.jobs.decode import DecodeOptions, decode
from vidlatent.jobs.encode import EncodeOptions, encode

SECONDS = 60
FRAMES = 150
PAUSE_S = 0.02  # at every window: many moments to kill at, and none is the last even where all is slow


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


def kill_often(work, target: Path, moments: int, kills: int) -> tuple[str, ...]:
    """Kill `work` so often, at any of the first so many lines of its journal; what is said when it ends."""
    dice = random.Random(1)
    for lines in sorted(dice.randrange(1, moments) for _ in range(kills)):
        run_and_kill(work, lines, target, dice.uniform(0, 2 * PAUSE_S))
    return work().notices


def slow_down(kind: type, method: str, pause_s: float) -> None:
    """Let a method take longer, so that there are many moments to kill at."""
    plain = getattr(kind, method)

    def slowly(self, *arguments):
        time.sleep(pause_s)
        return plain(self, *arguments)

    setattr(kind, method, slowly)


def main(source: str, folder: str, kind: str, posterior: str, kills: str) -> None:
    """Encode, and decode into images, once undisturbed and once killed so often; print what was said."""
    torch.set_num_threads(1)  # and no other thread lives when this process forks
    model, clip, killed = (
        random_model(kind),
        Path(folder, "undisturbed.latent"),
        Path(folder, "killed.latent"),
    )
    slow_down(LatentWriter, "append", PAUSE_S)
    options = EncodeOptions(posterior=posterior, resume=True, force=True)
    moments = FRAMES // model.spec.plan.encode_time.stride // 2
    said = kill_often(partial(encode, source, killed, model, options), killed, moments, int(kills))
    encode(source, clip, model, EncodeOptions(posterior=posterior))
    slow_down(ImageSink, "write", PAUSE_S / 4)
    images, again = Path(folder, "killed"), DecodeOptions(resume=True)
    said += kill_often(partial(decode, clip, f"{images}/", model, again), images, FRAMES // 2, int(kills))
    decode(clip, f"{folder}/undisturbed/", model)
    print(json.dumps(said))


SLOW = [pytest.param(*each, 20, marks=pytest.mark.slow) for each in (("wf", "sample"), ("pocket", "mode"))]


@pytest.mark.parametrize(("kind", "posterior", "kills"), [("pocket", "full", 2), *SLOW])
def test_killed_and_gone_on_with_it_is_what_an_undisturbed_run_makes(
    tmp_path, moving_clip, kind, posterior, kills
):
    source = write_frames(tmp_path / "clip", moving_clip(FRAMES, 16, 24))
    words = [__file__, source, tmp_path, kind, posterior, kills]
    told = warm.run(words, stdout=subprocess.PIPE, check=True, timeout=10 * SECONDS)
    made = ["killed", "killed.latent", "undisturbed", "undisturbed.latent"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", *made]
    assert (tmp_path / "killed.latent").read_bytes() == (tmp_path / "undisturbed.latent").read_bytes()
    killed, undisturbed = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in made[::2]
    )
    assert killed == undisturbed and len(killed) == FRAMES + 1
    kept = [notice for notice in json.loads(told.stdout) if "of an earlier run are kept" in notice]
    assert [notice.split()[1] for notice in kept] == ["latents", "frames"]


if __name__ == "__main__":
    main(*sys.argv[1:])
