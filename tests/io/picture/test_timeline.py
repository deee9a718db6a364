"""Every frame survives with a time of its own, as near to what the source says as can be."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidlatent.io.picture.timeline import COARSE, FINEST_HZ, MOST_TICKS, Timeline, bound_rate, refine

MILLI = Fraction(1, 1000)


def placed(stamps, base=MILLI, rate=Fraction(25)):
    line = Timeline(base, rate)
    return [line.place(stamp) * line.time_base / base for stamp in stamps], line


def test_increasing_times_are_kept_exactly():
    assert placed([-80, -3, 0, 41, 4000])[0] == [-80, -3, 0, 41, 4000]


def test_a_repeated_time_moves_by_less_than_a_tenth_of_a_millisecond():
    times, line = placed([0, 40, 40, 80])
    assert times[0:2] == [0, 40] and times[3] == 80
    assert 0 < (times[2] - 40) * MILLI <= Fraction(1, FINEST_HZ)
    assert line.moved == 1


def test_a_missing_time_is_one_frame_after_the_last():
    times, line = placed([None, None, 100, None])
    assert times == [0, 40, 100, 140]
    assert line.guessed == 3


def test_decoding_order_stands_in_for_a_missing_time():
    line = Timeline(MILLI, Fraction(25))
    assert [line.place(None, dts) * line.time_base / MILLI for dts in (0, 33, 67)] == [0, 33, 67]


def test_a_clock_that_starts_anew_goes_on():
    times, line = placed([5000, 5040, 0, 40, 80])
    assert times == [5000, 5040, 5080, 5120, 5160]
    assert line.leaps == 1


@given(st.lists(st.none() | st.integers(-(10**6), 10**6), min_size=1, max_size=60))
def test_times_always_increase(stamps):
    times, _ = placed(stamps)
    assert len(times) == len(stamps)
    assert all(b > a for a, b in pairwise(times))


def test_ticks_are_those_an_mp4_gets():
    for base, factor in ((Fraction(1, 25), 512), (Fraction(1, 90_000), 1), (Fraction(1, 12_800), 1)):
        assert refine(base) == factor


def test_the_last_frame_lasts_as_long_as_it_says_if_the_one_before_did():
    line = Timeline(MILLI, Fraction(25))
    for stamp in (0, 40, 80):
        line.place(stamp)
    assert line.final_duration(95, 40) == line.ticks(95)
    assert line.final_duration(20, 20) == line.ticks(40)  # packets of fields name half the time
    assert line.final_duration(0, 0) == line.ticks(40)
    assert line.final_duration(95, None) == line.ticks(95)
    assert line.final_duration(95, 41) == line.ticks(95) and line.final_duration(95, 42) == line.ticks(40)


def test_a_missing_time_is_one_tick_later_where_the_rate_is_unknown_or_finer_than_a_tick():
    for base, rate, step in ((Fraction(1, 3), None, Fraction(1, 3)), (MILLI, Fraction(10**9), MILLI / 16)):
        line = Timeline(base, rate)
        assert [line.place(None) * line.time_base for _ in range(3)] == [0, step, 2 * step]
        assert line.step == step


def test_step_and_end_are_seconds_on_the_clock_that_the_source_has_now():
    _, line = placed([0, 40, 100])
    assert (line.step, line.end) == (Fraction(60, 1000), Fraction(160, 1000))
    _, line = placed([5000, 5040, 0, 40])  # the clock starts anew
    assert (line.step, line.end) == (Fraction(40, 1000), Fraction(80, 1000))
    assert Timeline(MILLI, Fraction(25)).end == Fraction(40, 1000), "of no frame at all"


@pytest.mark.parametrize(("back_to", "moved", "leaps"), [(1000, 1, 0), (999, 0, 1)])
def test_more_than_a_second_back_is_a_new_clock(back_to, moved, leaps):
    _, line = placed([2000, back_to])
    assert (line.moved, line.leaps) == (moved, leaps)


def test_a_time_base_is_kept_up_to_what_containers_can_say_and_else_rounding_is_said():
    assert MOST_TICKS == 2_147_483_647
    kept = Timeline(Fraction(1, MOST_TICKS), None)
    assert kept.time_base == Fraction(1, MOST_TICKS) and not kept.notices()
    coarse = Timeline(Fraction(1, MOST_TICKS + 1), Fraction(25))
    assert coarse.time_base == COARSE
    assert coarse.notices() == ["times in steps of 1/2147483648 s are rounded to 1/1000000 s"]


def test_what_had_to_be_changed_is_said_with_its_counts():
    _, line = placed([None, 5000, 5000, 0, 40])
    assert [notice.split(",")[0] for notice in line.notices()] == [
        "1 frames without a timestamp",
        "1 frames whose time did not advance",
        "1 leaps back of the clock",
    ]


def test_a_rate_is_kept_where_containers_can_say_it_else_it_is_the_nearest_that_they_can():
    assert [bound_rate(Fraction(rate)) for rate in ("25", "29.97002997")] == [25, Fraction(30_000, 1001)]
    slow = Fraction(2, 10**10 + 1)  # a frame lasts 158 years
    assert bound_rate(slow) == Fraction(1, 5 * 10**9)
