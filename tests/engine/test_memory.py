"""Memory as a promise: what is foretold is what is taken, and limits choose plans."""

import subprocess
import sys

import pytest

import vidlatent
from vidlatent.engine.memory import fit, settle, smaller_plans, window_bytes
from vidlatent.errors import OutOfResources

SIZE = (240, 320)


@pytest.fixture(scope="module")
def pocket():
    return vidlatent.load_model("pocket", device="cpu")


def test_a_plan_that_fits_is_left_alone(pocket):
    plan = pocket.plan()
    assert settle(pocket, plan, SIZE, 64 << 30).plan == plan
    assert settle(pocket, plan, SIZE).plan == plan


def test_smaller_plans_take_less_and_less(pocket):
    plans = smaller_plans(pocket, pocket.plan(), 320)
    needs = [window_bytes(pocket, plan, SIZE, encode=True) for plan, _ in plans[::12]]
    assert needs == sorted(needs, reverse=True)


def test_an_exact_model_takes_shorter_chunks_before_it_takes_tiles(pocket):
    whole, chunked = (window_bytes(pocket, p, SIZE, True) for p in
                      (pocket.plan(), smaller_plans(pocket, pocket.plan(), 320)[0][0]))  # fmt: skip
    found = fit(pocket, pocket.plan(), SIZE, fixed_and((whole + chunked) // 2), encode=True)
    assert found.plan.encode_time.stride == 4 and found.plan.encode_tiles is None
    assert "chunks of 4 frames" in found.notices[0]


def fixed_and(extra: int) -> int:
    """A limit of what this process takes already and `extra` bytes."""
    from vidlatent.engine.memory import QUEUES_BYTES, resident_bytes

    return resident_bytes() + QUEUES_BYTES + extra


def test_what_cannot_fit_says_what_would(pocket):
    with pytest.raises(OutOfResources, match=r"smallest plan needs about \d"):
        fit(pocket, pocket.plan(), SIZE, 1 << 20, encode=True)


@pytest.mark.parametrize("encode", [True, False])
def test_what_is_foretold_covers_what_is_taken(encode):
    """Peak resident memory of one window in a fresh process, against the promise."""
    code = f"""
import torch, vidlatent
from vidlatent.engine.memory import window_bytes, resident_bytes
from vidlatent.engine.runtime import peak_host_bytes
torch.set_num_threads(2)
model = vidlatent.load_model("pocket", device="cpu")
clip = lambda h, w: torch.zeros(1, 3, 17, h, w) if {encode} else torch.zeros(1, 16, 5, h // 8, w // 8)
run = model.encode if {encode} else model.decode
run(clip(64, 64))  # what libraries take once
whole = clip(*{SIZE})
whole += 1  # zeros are no memory until they are written
before = resident_bytes()
run(whole)
print(peak_host_bytes() - before, window_bytes(model, model.plan(), {SIZE}, {encode}))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    taken, promised = map(int, out.split())
    assert 0.3 * promised < taken < 1.1 * promised
