"""Other rates and sizes: by a stated rule, equal to a stated reference."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidlatent.errors import UsageError
from vidlatent.io.picture.info import ReadOptions
from vidlatent.io.picture.resample import Framing, Rate, resize, select, square_size

MILLI = Fraction(1, 1000)
LEVEL = 1  # of the output type: what "equals the reference" means


def clip(*stamps, last=40):
    """(index, pts, duration) in milliseconds."""
    ends = [*stamps[1:], stamps[-1] + last]
    return [(i, pts, end - pts) for i, (pts, end) in enumerate(zip(stamps, ends, strict=True))]


def at(fps, *stamps, last=40):
    rate = Rate(Fraction(fps))
    held = list(rate.hold(clip(*stamps, last=last), MILLI))
    return [frame for frame, _, _ in held], [pts * rate.time_base for _, pts, _ in held]


def test_frames_go_to_the_nearest_slot_and_are_held():
    shown, times = at(10, 0, 90, 310, 400)
    assert shown == [0, 1, 1, 2, 3]
    assert times == [Fraction(k, 10) for k in range(5)]


def test_of_two_frames_of_one_slot_the_last_is_shown():
    assert at(10, 0, 30, 100)[0] == [1, 2]


def test_the_last_frame_is_held_for_its_duration():
    assert at(10, 0, 100, last=300)[0] == [0, 1, 1, 1]


def test_slots_start_at_the_first_frame():
    assert at(10, 1234, 1334)[1][0] == pytest.approx(1.234, abs=1e-4)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.sampled_from([5, 12, 24, 25, 30, 60]))
def test_every_slot_shows_a_frame_near_it_or_the_last_one_before(steps, fps):
    stamps = list(np.cumsum([0, *steps]))
    shown, times = at(fps, *map(int, stamps))
    assert all(b >= a for a, b in pairwise(shown))
    for frame, time in zip(shown, times, strict=True):
        assert stamps[frame] * MILLI <= time + Fraction(1, 2) / fps


def test_a_span_is_half_open_and_counted():
    options = ReadOptions(start=Fraction(40, 1000), end=Fraction(120, 1000))
    assert [f for f, _, _ in select(clip(0, 40, 80, 120), MILLI, options)] == [1, 2]
    assert len(list(select(clip(0, 40, 80), MILLI, ReadOptions(frames=2)))) == 2


def test_at_another_rate_a_span_is_half_open_too():
    """`--fps 16 --end 1.0625` gave 18 frames: the last one was held beyond the end."""
    stamps = range(0, 10_000, 40)
    options = ReadOptions(fps=Fraction(16), start=Fraction(0), end=Fraction(17, 16))
    times = [pts * Rate(Fraction(16)).time_base for _, pts, _ in select(clip(*stamps), MILLI, options)]
    assert times == [Fraction(k, 16) for k in range(17)]


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=40),
    st.sampled_from([5, 16, Fraction(24000, 1001), 25, 60]),
    st.lists(st.fractions(0, 20, max_denominator=100), max_size=4),
    st.integers(0, 200),
)
def test_spans_that_tile_a_clip_tile_its_slots(steps, fps, cuts, first):
    timed = clip(*map(int, np.cumsum([first, *steps])))
    whole = list(select(timed, MILLI, ReadOptions(fps=Fraction(fps))))
    ends = [None, *sorted(cuts), None]
    parts = [
        list(select(timed, MILLI, ReadOptions(start, end, fps=Fraction(fps))))
        for start, end in pairwise(ends)
    ]
    assert [item for part in parts for item in part] == whole


def test_frames_that_begin_later_fall_into_the_slots_of_the_clip():
    timed, options = clip(*range(120, 4000, 70)), ReadOptions(start=Fraction(2), fps=Fraction(16))
    whole = list(select(timed, MILLI, options))
    assert list(select(timed[20:], MILLI, options, origin=Fraction(120, 1000))) == whole


def keys(x):
    """Keys' cubic with a = -1/2."""
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def reference(values, size, axis):
    """Antialiased bicubic along one axis, as its definition reads, in float64."""
    length = values.shape[axis]
    scale = length / size
    stretch = max(scale, 1)
    centre = (np.arange(size) + 0.5) * scale
    weights = keys((np.arange(length)[None] + 0.5 - centre[:, None]) / stretch)
    reach = np.abs(np.arange(length)[None] + 0.5 - centre[:, None]) < 2 * stretch
    weights = np.where(reach, weights, 0)
    return np.moveaxis(np.tensordot(weights / weights.sum(1, keepdims=True), values, (1, axis)), 0, axis)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(17, 11), (64, 48), (150, 101), (33, 90)])
def test_resize_equals_the_definition_to_one_level(size, dtype):
    top = np.iinfo(dtype).max
    picture = np.random.default_rng(0).integers(0, top, (90, 150, 3), dtype)
    expected = reference(reference(picture.astype(float), size[0], 1), size[1], 0).clip(0, top)
    assert np.abs(resize(picture, size) - np.round(expected)).max() <= LEVEL * (1 if dtype is np.uint8 else 2)


def test_stretching_keeps_the_displayed_shape():
    framing = Framing.plan((1920, 1080), Fraction(1), ReadOptions(size=(256, 256)))
    assert framing.sar == Fraction(16, 9)


def test_covering_cuts_the_middle_in_square_pixels():
    framing = Framing.plan((640, 360), Fraction(2), ReadOptions(size=(128, 128), fit="crop"))
    assert framing.box == (230, 0, 180, 360) and framing.sar == 1


def test_padding_shows_everything_between_black_bars():
    framing = Framing.plan((640, 360), Fraction(1), ReadOptions(size=(64, 64), fit="pad"))
    out = framing.apply(np.full((360, 640, 3), 200, np.uint8))
    assert out.shape == (64, 64, 3) and framing.scaled == (64, 36)
    assert not out[:14].any() and not out[50:].any() and (out[14:50] == 200).all()


def test_a_crop_outside_the_picture_is_refused():
    with pytest.raises(UsageError, match="outside the picture of 64x48"):
        Framing.plan((64, 48), Fraction(1), ReadOptions(crop=(60, 0, 8, 8)))


def test_square_pixels_never_lose_any():
    assert square_size(640, 360, Fraction(2)) == (1280, 360)
    assert square_size(640, 360, Fraction(1, 2)) == (640, 720)
