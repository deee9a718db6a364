"""Times, rates and amounts as Python callers give them."""

from fractions import Fraction

import pytest

from vidlatent.errors import UsageError
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.decode import DecodeOptions
from vidlatent.jobs.encode import EncodeOptions


@pytest.mark.parametrize(
    ("given", "rate"),
    [
        (15, 15),
        (29.97, Fraction(2997, 100)),
        ("30000/1001", Fraction(30000, 1001)),
        (Fraction(24), 24),
        (None, None),
    ],
)
def test_a_rate_may_be_any_number(given, rate):
    assert ReadOptions(fps=given).fps == rate
    assert ReadOptions(fps=given) == ReadOptions(fps=rate)


@pytest.mark.parametrize("given", [0, -1, float("nan"), float("inf"), "fast", "1/0", True])
def test_what_is_no_rate_is_named_in_words_of_python(given):
    with pytest.raises(UsageError, match=r"^fps .*: not a frame rate"):
        ReadOptions(fps=given)


def test_times_may_be_any_number():
    read, wish = ReadOptions(start=0.1, end="3"), DecodeOptions(start=1, end=2.5)
    assert (read.start, read.end) == (Fraction(1, 10), 3)
    assert (wish.start, wish.end) == (1, Fraction(5, 2))
    with pytest.raises(UsageError, match=r"^end soon: not a time in seconds"):
        DecodeOptions(end="soon")


@pytest.mark.parametrize(
    ("given", "count"), [("4G", 4 << 30), ("512MiB", 512 << 20), (1000, 1000), ("1.5k", 1536), (None, None)]
)
def test_memory_may_be_said_in_words(given, count):
    assert EncodeOptions(max_memory=given).max_memory == count
    assert DecodeOptions(max_memory=given).max_memory == count


@pytest.mark.parametrize("given", ["much", "0", -4, "4 parsecs", 0])
def test_what_is_no_amount_is_named_in_words_of_python(given):
    with pytest.raises(UsageError, match=r"^max_memory .*: not an amount of memory"):
        EncodeOptions(max_memory=given)
