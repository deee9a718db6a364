"""Frames find their partners by their times, and those that stay alone are counted."""

from fractions import Fraction

import numpy as np
import pytest

from vidlatent.errors import BadInput
from vidlatent.jobs.measure.align import Aligner, TimedFrame


def frames(*times: float):
    """A stream of frames at these seconds, each a picture of its own."""
    for time in times:
        yield TimedFrame(np.full((1, 1, 3), int(100 * time) % 256, np.uint8), Fraction(str(time)))


def paired(mode: str, first, second) -> tuple[list[tuple[int, int]], Aligner]:
    aligner = Aligner(mode, Fraction(1, 1000), ("a", "b"))
    return [(int(a[0, 0, 0]), int(b[0, 0, 0])) for a, b in aligner.pairs(first, second)], aligner


@pytest.mark.parametrize(
    ("first", "second", "pairs", "only"),
    [
        ((0, 1, 2), (0, 1, 2), [0, 100, 200], (0, 0)),
        ((0, 1, 2, 2.5), (1, 2), [100, 200], (2, 0)),
        ((1, 2), (0, 1, 2, 2.5), [100, 200], (0, 2)),
        ((0, 1), (0.5, 1, 1.5, 2), [100], (1, 3)),
        ((0, 0.5, 1), (0, 1), [0, 100], (1, 0)),
    ],
)
def test_frames_that_only_one_has_are_left_out_and_counted(first, second, pairs, only):
    found, aligner = paired("overlap", frames(*first), frames(*second))
    assert found == [(each, each) for each in pairs]
    assert (aligner.alignment.only_first, aligner.alignment.only_second) == only
    assert (
        f"left out {only[0]} frames of the first, {only[1]} of the second" in str(aligner.alignment)
    ) == any(only)


@pytest.mark.parametrize(("counts", "only"), [((3, 3), (0, 0)), ((5, 3), (2, 0)), ((3, 5), (0, 2))])
def test_by_number_the_longer_one_is_cut_and_its_rest_counted(counts, only):
    _, aligner = paired("index", *(frames(*range(count)) for count in counts))
    done = aligner.alignment
    assert (done.pairs, done.only_first, done.only_second) == (3, *only)


@pytest.mark.parametrize(
    ("counts", "said"), [((4, 3), "a has 4 frames, b has 3"), ((3, 5), "3 frames, b has 5")]
)
def test_where_all_must_match_both_lengths_are_said(counts, said):
    with pytest.raises(BadInput, match=said):
        paired("exact", *(frames(*range(count)) for count in counts))


def test_nothing_in_common_is_an_error():
    with pytest.raises(BadInput, match="a and b have no frame in common"):
        paired("overlap", frames(0, 1), frames(2, 3))


def test_clips_that_begin_apart_or_part_later_are_told_where():
    with pytest.raises(BadInput, match=r"begin apart: a at 0.000000 s, b at 0.500000 s\nhint: align start"):
        paired("exact", frames(0, 1), frames(0.5, 1.5))
    with pytest.raises(BadInput, match=r"times part at frame 1: a at 1.000000 s, b at 1.250000 s"):
        paired("exact", frames(0, 1), frames(0, 1.25))
    with pytest.raises(BadInput, match=r"times part at frame 1: a at 1.000000 s, b at 1.750000 s"):
        paired("start", frames(0, 1), frames(0.5, 1.75))


def test_laid_together_at_their_start_the_shift_is_said():
    found, aligner = paired("start", frames(0, 1), frames(0.5, 1.5))
    assert found == [(0, 50), (100, 150)] and aligner.alignment.at == 1
    assert str(aligner.alignment).endswith("; the second shifted by -0.5 s")
    assert "shifted" not in str(paired("exact", frames(0, 1), frames(0, 1))[1].alignment)


def test_by_number_times_do_not_matter_and_rounding_never_does():
    assert paired("index", frames(0, 1), frames(5, 9))[1].alignment.pairs == 2
    assert paired("exact", frames(0, 1), frames(0, 1.001))[1].alignment.pairs == 2
    assert paired("overlap", frames(0, 1), frames(0, 1.001))[1].alignment.pairs == 2
