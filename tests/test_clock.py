"""Times are exact: integers times a fraction."""

from fractions import Fraction

import numpy as np
import pytest

from vidlatent.clock import FrameClock

NTSC = Fraction(1001, 30000)


def clock(*pts: int, durations: list[int] | None = None, time_base: Fraction = Fraction(1, 10)) -> FrameClock:
    """A clock of these ticks."""
    return FrameClock(time_base, np.array(pts, np.int64), np.array(durations or [], np.int64))


def test_seconds_are_exact_after_a_day_of_ntsc():
    frames = 86_400 * 30
    day = FrameClock(NTSC, np.arange(frames))
    assert day.seconds(frames - 1) == (frames - 1) * NTSC
    assert day.duration == frames * NTSC
    assert day.average_rate == 1 / NTSC


def test_seconds_do_not_overflow_where_ticks_are_large():
    assert clock((1 << 62) - 1, 1 << 62, time_base=Fraction(1 << 30)).seconds(1) == 1 << 92


@pytest.mark.parametrize(
    ("of", "ticks"),
    [
        (clock(0, 3, 7), 4),
        (clock(0, 3, 7, durations=[3, 4, 9]), 9),
        (clock(0, 3, 7, durations=[3, 4, 1]), 1),
        (clock(0, 3, 7, durations=[3, 4, 0]), 4),
        (clock(5), 1),
        (clock(5, durations=[2]), 2),
    ],
)
def test_the_last_frame_lasts_as_long_as_is_known(of: FrameClock, ticks: int):
    assert of.last_duration == ticks
    assert of.duration == (int(of.pts[-1] - of.pts[0]) + ticks) * of.time_base


def test_a_clip_of_nothing_has_neither_length_nor_rate():
    assert (len(clock()), clock().duration, clock().average_rate) == (0, 0, 0)


def test_a_variable_rate_averages_over_the_whole():
    assert clock(0, 1, 9, 10).average_rate == Fraction(4, Fraction(11, 10))


def test_a_clip_shorter_than_a_second_has_a_rate():
    assert clock(0, 1).average_rate == 10


def test_a_slice_keeps_times_and_durations():
    part = clock(0, 3, 7, 8, durations=[3, 4, 1, 1]).slice(1, 3)
    assert part == clock(3, 7, durations=[4, 1])


@pytest.mark.parametrize(
    "other",
    [
        clock(0, 1),
        clock(0, 1, 3),
        clock(0, 1, 2, time_base=Fraction(1, 9)),
        clock(0, 1, 2, durations=[1, 1, 1]),
        7,
    ],
)
def test_clocks_that_tell_other_times_differ(other: object):
    assert clock(0, 1, 2) == clock(0, 1, 2)
    assert clock(0, 1, 2) != other


@pytest.mark.parametrize("time_base", [Fraction(0), Fraction(-1, 30)])
def test_a_tick_must_last_some_time(time_base: Fraction):
    with pytest.raises(ValueError, match="a tick must last some time"):
        clock(0, 1, time_base=time_base)


def test_durations_are_all_known_or_none():
    with pytest.raises(ValueError, match="expected 3 durations or none, got 2"):
        clock(0, 1, 2, durations=[1, 1])


def test_a_frame_lasts_as_it_says_or_until_the_next():
    known, unknown = clock(0, 3, 7, durations=[2, 0, 9]), clock(0, 3, 7)
    assert [known.duration_of(i) for i in range(3)] == [2, 4, 9]
    assert [unknown.duration_of(i) for i in range(3)] == [3, 4, 4]


@pytest.mark.parametrize("durations", [[3, 4, 2], [3, 4, 0], None])
def test_the_end_is_when_the_last_frame_ends(durations):
    """Of three frames, so that the last is neither the first nor the second; a length unknown is the step."""
    last = 2 if durations and durations[-1] else 7
    assert clock(10, 13, 20, durations=durations).end == Fraction(20 + last, 10)


def test_the_end_of_a_single_frame_is_its_own():
    assert clock(10, durations=[4]).end == Fraction(14, 10) and clock(10).end == Fraction(11, 10)
