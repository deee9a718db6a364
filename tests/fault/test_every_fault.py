"""A disk call that fails is said and loses nothing; power that fails takes nothing that was promised.

Here a sample is tried; `every_fault.py` and `power_loss.py` try everything, and print counts.
"""

import json
import os
from pathlib import Path

import pytest
from helpers.disk_calls import can_preload, run_preloaded

HERE = Path(__file__).resolve().parent
SEED = os.environ.get("VIDLATENT_FAULT_SEED", "1")  # another one tries other calls

pytestmark = pytest.mark.skipif(not can_preload(), reason="needs Linux, LD_PRELOAD and a C compiler")


def run(script: str, folder: Path, *words: str) -> dict:
    """What a script counted; it ends with 0 where nothing was wrong."""
    done = run_preloaded(HERE / script, folder, *words, "--seed", SEED)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_call_to_the_disk_that_fails_is_said_and_loses_nothing(tmp_path):
    counts = run(
        "every_fault.py", tmp_path, "encode", "cache tar", "compact", "export webdataset", "--share", "200"
    )
    assert counts["tried"] >= 9
    assert sum(command["codes"].get("5", 0) for command in counts["commands"].values()) >= 3


def test_power_that_fails_takes_nothing_that_was_promised(tmp_path):
    counts = run(
        "power_loss.py", tmp_path, "encode", "cache tar", "compact again", "--chances", "2", "--again", "1"
    )
    assert counts["states"] > 100 and all(command["again"] for command in counts["commands"].values())


@pytest.mark.slow
def test_a_tenth_of_all_calls_of_all_commands(tmp_path):
    assert run("every_fault.py", tmp_path, "--share", "10")["tried"] > 300
    assert run("power_loss.py", tmp_path)["states"] > 1000
