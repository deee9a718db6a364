import math

import imageio_ffmpeg
import numpy as np
import pytest

from vidlatent.errors import BadInput, UsageError
from vidlatent.jobs.measure.compare import CompareOptions, compare
from vidlatent.jobs.measure.score import match_depths
from vidlatent.metrics.ffmpeg import probe

FILTERS = probe(imageio_ffmpeg.get_ffmpeg_exe()).filters
PSNR = ("psnr",)


def options(**more) -> CompareOptions:
    return CompareOptions(metrics=PSNR, device="cpu", **more)


def test_a_clip_beside_itself_is_infinitely_alike(as_clip, moving_clip):
    clip = as_clip("a", moving_clip(5))
    (row,) = compare(clip, clip, options()).rows
    assert row.scores["psnr"].mean == math.inf
    assert row.frames == 5
    assert "5 pairs, same number of frames, same times" in row.notices[0]


def test_it_is_said_that_all_frames_are_identical_and_only_then(as_clip, moving_clip):
    frames = moving_clip(3)
    changed = frames.copy()
    changed[0, 0, 0, 0] += 1
    a, b = as_clip("a", frames), as_clip("b", changed)
    said = "all frames are identical"
    assert [said in compare(a, other, options()).rows[0].notices for other in (a, b)] == [True, False]


@pytest.mark.skipif("libvmaf" not in FILTERS, reason="this ffmpeg has no libvmaf")
def test_why_vmaf_of_identical_videos_is_below_100_is_said(as_clip, moving_clip):
    clip = as_clip("a", moving_clip(4, 120, 160))
    (row,) = compare(clip, clip, CompareOptions(metrics=("vmaf",), device="cpu")).rows
    assert row.scores["vmaf"].per_frame[1:] == (100.0,) * 3 and row.scores["vmaf"].mean < 100
    assert "97.4 where nothing moves" in row.notices[-1]


def test_clocks_with_other_ticks_show_the_same_times(as_clip, moving_clip):
    """A container that keeps milliseconds rounds 1/30 s: within a tick that is the same moment."""
    a = as_clip("a", moving_clip(4), step=3, time_base="1/90")
    b = as_clip("b", moving_clip(4), step=33, time_base="1/1000")
    assert compare(a, b, options()).rows[0].frames == 4


def test_one_level_off_is_48_13_db_at_every_frame(as_clip, moving_clip):
    frames = moving_clip(4)
    a, b = as_clip("a", frames), as_clip("b", frames + 1)
    score = compare(a, b, options()).rows[0].scores["psnr"]
    assert score.per_frame == pytest.approx([20 * math.log10(255)] * 4)


def test_a_shorter_video_is_refused_with_both_lengths(as_clip, moving_clip):
    frames = moving_clip(6)
    a, b = as_clip("a", frames), as_clip("b", frames[:4])
    with pytest.raises(BadInput, match=r"a has 6 frames, .*b has 4\nhint: align overlap"):
        compare(a, b, options())
    with pytest.raises(BadInput, match=r"b has 4 frames, .*a has 6"):
        compare(b, a, options())


def test_a_shorter_video_is_compared_as_far_as_it_goes_and_says_so(as_clip, moving_clip):
    frames = moving_clip(6)
    a, b = as_clip("a", frames), as_clip("b", frames[:4])
    for align in ("overlap", "index"):
        (row,) = compare(a, b, options(align=align)).rows
        assert row.scores["psnr"].mean == math.inf
        assert "4 pairs" in row.notices[0]
        assert "left out 2 frames of the first, 0 of the second" in row.notices[0]


def test_a_shifted_video_is_refused_and_told_how(as_clip, moving_clip):
    a, b = as_clip("a", moving_clip(4)), as_clip("b", moving_clip(4), start=10)
    with pytest.raises(
        BadInput, match=r"begin apart: .*a at 0\.000000 s, .*b at 0\.400000 s\nhint: align st"
    ):
        compare(a, b, options())


def test_a_shifted_video_can_be_laid_at_the_start(as_clip, moving_clip):
    a, b = as_clip("a", moving_clip(4)), as_clip("b", moving_clip(4), start=10)
    (row,) = compare(a, b, options(align="start")).rows
    assert row.scores["psnr"].mean == math.inf
    assert "the second shifted by -0.4 s" in row.notices[0]


def test_overlap_pairs_frames_of_the_same_time(as_clip, moving_clip):
    frames = moving_clip(8)
    a, b = as_clip("a", frames), as_clip("b", frames[3:], start=3)
    (row,) = compare(a, b, options(align="overlap")).rows
    assert row.frames == 5
    assert row.scores["psnr"].mean == math.inf


def test_videos_without_a_common_time_are_refused(as_clip, moving_clip):
    a, b = as_clip("a", moving_clip(3)), as_clip("b", moving_clip(3), start=100)
    with pytest.raises(BadInput, match="no frame in common"):
        compare(a, b, options(align="overlap"))


def test_times_that_part_later_name_the_frame(as_clip, moving_clip):
    a, b = as_clip("a", moving_clip(4)), as_clip("b", moving_clip(4), step=2)
    with pytest.raises(BadInput, match="times part at frame 1"):
        compare(a, b, options())


def test_index_pairs_by_number_whatever_the_times(as_clip, moving_clip):
    a, b = as_clip("a", moving_clip(4)), as_clip("b", moving_clip(4), start=7, step=3)
    assert compare(a, b, options(align="index")).rows[0].scores["psnr"].mean == math.inf


def test_other_sizes_are_refused_unless_scaled(as_clip, moving_clip):
    a, b = as_clip("a", moving_clip(2, 32, 48)), as_clip("b", moving_clip(2, 64, 96))
    with pytest.raises(BadInput, match=r"b is 96×64, .*a is 48×32\nhint: add scale"):
        compare(a, b, options())
    (row,) = compare(a, b, options(scale=True)).rows
    assert any("scaled to 48×32" in note for note in row.notices)
    assert math.isfinite(row.scores["psnr"].mean)


def test_an_unknown_alignment_lists_those_there_are(as_clip, moving_clip):
    clip = as_clip("a", moving_clip(1))
    with pytest.raises(UsageError, match="exact, start, index, overlap"):
        compare(clip, clip, options(align="guess"))


def test_two_depths_are_compared_in_the_deeper_one(as_clip, moving_clip):
    frames = moving_clip(2)
    deep = frames.astype(np.uint16) * 257
    a, b = as_clip("a", frames), as_clip("b", deep)
    (row,) = compare(a, b, options()).rows
    assert row.scores["psnr"].mean == math.inf
    assert any("compared in 16 bits" in note for note in row.notices)


def test_widening_8_bits_reaches_both_ends():
    shallow, deep = np.array([0, 255], np.uint8), np.zeros(2, np.uint16)
    assert match_depths(shallow, deep)[0].tolist() == [0, 65535]
