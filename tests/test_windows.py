"""Windows and tiles: integers that must cover a clip exactly once."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidlatent.grid import Grid
from vidlatent.windows import Tiling, TimeRule, cut, even_tiles

GRID = Grid(time=4, space=8)
BLENDED = TimeRule(3, 2, blend=4)  # HunyuanVideo 1.0: of five latents three are new


def kept_latents(rule: TimeRule, total: int) -> list[int]:
    """The absolute number of every latent frame that is kept, in order."""
    kept = []
    for window in rule.windows(GRID.latents, total):
        count = GRID.latents(window.stop - window.start)
        assert window.start % GRID.time == 0 or rule.exact
        first = window.start // GRID.time
        kept += range(first + window.drop, first + count)
    return kept


def kept_frames(rule: TimeRule, total: int) -> list[int]:
    """The absolute number of every decoded frame that is kept, in order."""
    kept = []
    for window in rule.windows(GRID.frames, total):
        first = window.start * GRID.time
        kept += range(first + window.drop, first + GRID.frames(window.stop - window.start))
    return kept


LENGTHS = range(1, 201)
few = settings(max_examples=20, deadline=None)


@few
@given(hops=st.integers(1, 16))
def test_encode_windows_keep_every_latent_once(hops):
    for total in LENGTHS:
        assert kept_latents(TimeRule(4 * hops, 1), total) == list(range(GRID.latents(total)))


@few
@given(stride=st.integers(1, 40), overlap=st.integers(1, 4))
def test_decode_windows_keep_every_frame_once(stride, overlap):
    for total in LENGTHS:
        assert kept_frames(TimeRule(stride, overlap), total) == list(range(GRID.frames(total)))


@given(total=st.integers(1, 300), stride=st.integers(1, 40))
def test_exact_windows_read_every_input_once(total, stride):
    read = [n for w in TimeRule(stride).windows(GRID.latents, total) for n in range(w.start, w.stop)]
    assert read == list(range(total))


@given(total=st.integers(1, 300), stride=st.integers(0, 40), overlap=st.integers(0, 4))
def test_cutting_a_stream_equals_cutting_with_the_total_known(total, stride, overlap):
    rule = TimeRule(stride, overlap)
    known = list(rule.windows(GRID.latents, total))
    streamed = list(cut(iter(range(total)), rule, GRID.latents))
    assert [window for window, _, _ in streamed] == known
    assert [held for _, held, _ in streamed] == [list(range(w.start, w.stop)) for w in known]
    assert [last for *_, last in streamed] == [False] * (len(known) - 1) + [True]


def test_windows_of_the_worked_example_in_the_reference():
    """93 frames in windows of 29: 8 + 7 + 7 + 2 latents (Open-Sora-Plan v1.2.0)."""
    spans = [(w.start, w.stop) for w in TimeRule(28, 1).windows(GRID.latents, 93)]
    assert spans == [(0, 29), (28, 57), (56, 85), (84, 93)]


def test_a_lone_last_frame_makes_no_window_of_its_own():
    assert len(list(TimeRule(16, 1).windows(GRID.latents, 33))) == 2


def test_windows_of_hunyuan_video_in_decode():
    """Windows of 5 latents every 3: 8 latents give two full windows and one that only changes 4 frames."""
    spans = [(w.start, w.stop, w.drop, w.keep) for w in BLENDED.windows(GRID.frames, 8)]
    assert spans == [(0, 5, 0, 13), (3, 8, 1, 12), (6, 8, 1, 12)]
    assert [(w.start, w.stop) for w in BLENDED.windows(GRID.frames, 7)] == [
        (0, 5),
        (3, 7),
    ]  # one latent: nothing


def test_a_clip_shorter_than_the_longest_blended_window_is_not_cut():
    """The authors' 64 frames are one clip, although a second window of 16 would give three latents."""
    rule = TimeRule(48, 17, blend=4)
    assert [(w.start, w.stop, w.drop) for w in rule.windows(GRID.latents, 64)] == [(0, 64, 0)]
    assert [(w.start, w.stop) for w in rule.windows(GRID.latents, 65)] == [(0, 65), (48, 65)]
    assert [last for _, _, last in cut(iter(range(64)), rule, GRID.latents)] == [True]


@given(total=st.integers(1, 300), hops=st.integers(1, 16), share=st.integers(1, 15))
def test_blended_windows_give_every_frame_once_and_in_step(total, hops, share):
    """Each window begins where the one before left off, and blends what both of them made."""
    overlap = 1 + min(hops, share)
    rule = TimeRule(hops, overlap, blend=4 * (overlap - 1))
    final, waiting = [], []
    for window in rule.windows(GRID.frames, total):
        first = window.start * GRID.time  # the number of the window's first frame
        frames = list(range(first + window.drop, first + GRID.frames(window.stop - window.start)))
        shared = min(len(waiting), len(frames), rule.blend)
        assert waiting == frames[:shared] or window.start == 0
        final += frames[: window.keep]
        waiting = frames[window.keep :]
    assert final + waiting == list(range(GRID.frames(total)))


@given(total=st.integers(1, 300), hops=st.integers(1, 16), share=st.integers(1, 15))
def test_cutting_a_stream_into_blended_windows_equals_cutting_with_the_total_known(total, hops, share):
    overlap = 1 + min(hops, share)
    rule = TimeRule(hops, overlap, blend=4 * (overlap - 1))
    known = list(rule.windows(GRID.frames, total))
    streamed = list(cut(iter(range(total)), rule, GRID.frames))
    assert [window for window, _, _ in streamed] == known
    assert [held for _, held, _ in streamed] == [list(range(w.start, w.stop)) for w in known]
    assert [last for *_, last in streamed] == [False] * (len(known) - 1) + [True]


@given(total=st.integers(1, 300), stride=st.integers(1, 20))
def test_batches_take_the_remainder_first(total, stride):
    """CogVideoX: max(T // 8, 1) batches, of which the first takes 8 + T mod 8 frames."""
    rule = TimeRule(stride, batches=True)
    sizes = [len(held) for _, held, _ in cut(iter(range(total)), rule, GRID.latents, total)]
    count = max(total // stride, 1)
    assert sizes == ([stride + total % stride] + [stride] * (count - 1) if total >= stride else [total])


@given(total=st.integers(1, 300), stride=st.integers(1, 20))
def test_batches_of_a_clip_of_unknown_length_are_those_of_the_padded_clip(total, stride):
    rule = TimeRule(stride, batches=True)
    padded = total + rule.missing(total, GRID.step)
    unknown = [w for w, *_ in cut(iter(range(padded)), rule, GRID.latents)]
    known = [w for w, *_ in cut(iter(range(padded)), rule, GRID.latents, padded)]
    assert unknown == known or stride == 1  # of one frame each the first two are a batch, or two
    assert (padded - 1) % stride == 0


def test_batches_do_not_overlap():
    with pytest.raises(ValueError, match="batches do not overlap"):
        TimeRule(8, 1, batches=True)


def test_an_undivided_rule_needs_the_total():
    with pytest.raises(ValueError, match="needs the total"):
        list(TimeRule(0).windows(GRID.latents))


def test_slivers_start_at_every_step_below_the_side():
    assert Tiling(40, 24, 2, 3, slivers=True).spans(40) == [(0, 40), (24, 40)]
    assert Tiling(40, 24, 2, 3).spans(40) == [(0, 40)]


@given(st.integers(2, 40), st.floats(0, 0.9), st.integers(1, 400))
def test_even_tiles_cover_a_side_exactly_once(size, overlap, side):
    encode, decode = even_tiles(8 * size, overlap, 8)
    assert encode.step == 8 * encode.keep and decode.keep == 8 * decode.step
    spans = encode.spans(8 * side)
    ends = [start + encode.step for start, _ in spans[:-1]] + [8 * side]
    assert [start for start, _ in spans] == [0, *ends[:-1]]
    assert all(a[1] >= b[0] for a, b in pairwise(spans))


def test_tiles_with_slivers_leave_frames_alone_that_fit_one():
    encode, decode = even_tiles(256, 0.25, 8, slivers=True)
    assert encode == Tiling(256, 192, blend=8, keep=24, slivers=True, whole=256)
    assert decode == Tiling(32, 24, blend=64, keep=192, slivers=True, whole=32)


def test_a_tile_that_does_not_advance_is_refused():
    with pytest.raises(ValueError, match="advance"):
        Tiling(8, 0, 0, 1)
