"""Decoding from the middle of a clip must give what decoding all of it gives."""

from functools import partial

import numpy as np
import pytest
from helpers.random_models import random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from vidlatent.engine.access import Access
from vidlatent.engine.load import load_model
from vidlatent.grid import Grid
from vidlatent.io.latent.reader import open_latent
from vidlatent.jobs.decode import decode_frames
from vidlatent.jobs.encode import encode
from vidlatent.models.horizon import latent_of
from vidlatent.windows import TimeRule

GRID = Grid(time=4, space=8)
RULES = [TimeRule(15, 1), TimeRule(3, 2, blend=4), TimeRule(12, 5, blend=16)]


def makers(rule: TimeRule, total: int, begin: int) -> dict[int, tuple]:
    """For each frame, by its number in the clip, the windows that it is made of and their weights."""
    made, waiting = {}, []
    for window in rule.windows(GRID.frames, total - begin):
        span = (begin + window.start, begin + window.stop)
        first = GRID.time * span[0] + window.drop
        frames = [
            (n, ((span, 1),)) for n in range(first, GRID.time * span[0] + GRID.frames(span[1] - span[0]))
        ]
        shared = min(len(waiting), len(frames), rule.blend)
        for k in range(shared):
            (before, its), (n, own) = waiting[k - shared], frames[k]
            assert before == n
            frames[k] = (n, (*its, (*own, k, shared)) if k else its)
        keep = len(frames) if window.keep is None else window.keep
        made.update(frames[:keep])
        waiting = frames[keep:]
    return {**made, **dict(waiting)}


@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("rule", RULES)
@given(total=st.integers(1, 90), at=st.floats(0, 1))
def test_a_frame_from_the_middle_is_made_of_the_same_windows(rule, total, at):
    frame = int(at * (GRID.frames(total) - 1))
    begin = Access(rule, 1, shared=rule.overlap).begin(latent_of(GRID, frame), total)
    whole, part = makers(rule, total, 0), makers(rule, total, begin)
    assert list(whole) == list(range(GRID.frames(total)))
    assert [part[n] for n in range(frame, GRID.frames(total))] == [whole[n] for n in range(frame, len(whole))]


@pytest.mark.parametrize("make", [partial(load_model, "toy"), partial(random_model, "pocket")])
def test_the_middle_of_a_clip_is_decoded_without_all_that_comes_before(tmp_path, as_clip, moving_clip, make):
    model, path, seen = make(), tmp_path / "clip.latent", []
    encode(as_clip("clip", moving_clip(170, 16, 24)), path, model)

    def watch(latents):
        for latent in latents:
            seen.append(latent)
            yield latent

    with open_latent(path) as latents:
        undivided = list(decode_frames(latents, model, latents.header.plan, (0, 170)))
        part = list(decode_frames(latents, model, latents.header.plan, (150, 160), watch=watch))
    assert np.array_equal(part, undivided[150:160])
    assert len(seen) < 24  # of 44 latents
