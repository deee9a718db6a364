"""Shards by cost, buckets by shape, long videos into clips."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidlatent.errors import UsageError
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.cache.plan import Shard, shard_from, share
from vidlatent.jobs.cache.recipe import Recipe, nearest_bucket, spans
from vidlatent.jobs.reading.survey import Probe
from vidlatent.windows import Plan, TimeRule

PLAN = Plan(TimeRule(16), TimeRule(4))
costs = st.lists(st.integers(1, 10_000), max_size=60)


def probe(width=640, height=480, seconds=10, rate=25, first=0, sar=1) -> Probe:
    frames = round(seconds * rate)
    length = Fraction(frames, rate)
    return Probe(width, height, Fraction(sar), frames, length, Fraction(rate), Fraction(first))


@settings(deadline=None)
@given(costs, st.integers(1, 7))
def test_shards_part_all_clips_and_none_twice(sizes, count):
    named = [(size, f"clip{n}") for n, size in enumerate(sizes)]
    parts = [share(named, Shard(index, count)) for index in range(count)]
    assert sorted(n for part in parts for n in part) == list(range(len(named)))


@settings(deadline=None)
@given(costs, st.integers(1, 7))
def test_no_shard_has_more_than_the_fair_share_and_one_clip(sizes, count):
    named = [(size, f"clip{n}") for n, size in enumerate(sizes)]
    loads = [sum(sizes[n] for n in share(named, Shard(index, count))) for index in range(count)]
    assert max(loads) <= sum(sizes) / count + max(sizes, default=0)


@settings(deadline=None)
@given(costs, st.randoms())
def test_shares_do_not_depend_on_the_order_of_clips(sizes, random):
    named = [(size, f"clip{n}") for n, size in enumerate(sizes)]
    shuffled = random.sample(named, len(named))
    first, second = ({clips[n] for n in share(clips, Shard(0, 3))} for clips in (named, shuffled))
    assert first == second


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Shard(0, 1)),
        ({"RANK": "3", "WORLD_SIZE": "8"}, Shard(3, 8)),
        (
            {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "4"},
            Shard(1, 4),
        ),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, Shard(1, 2)),
    ],
)
def test_a_shard_comes_from_torchrun_or_slurm(environment, expected):
    assert shard_from(None, environment) == expected


def test_what_is_said_goes_before_the_environment():
    assert shard_from("1/2", {"RANK": "3", "WORLD_SIZE": "8"}) == Shard(1, 2)


@pytest.mark.parametrize("text", ["2/2", "1", "a/b", "-1/2", "0/0"])
def test_shards_that_cannot_be_are_refused(text):
    with pytest.raises(UsageError, match=r"^shard "):
        shard_from(text, {})


@pytest.mark.parametrize(("text", "first"), [("2/2", "0/2"), ("0/0", "0/1")])
def test_the_first_shard_that_can_be_is_named(text, first):
    with pytest.raises(UsageError, match=f"{first} is the first"):
        shard_from(text, {})


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (probe(1920, 1080), (832, 480)),
        (probe(1080, 1920), (480, 832)),
        (probe(500, 480), (640, 640)),
        (probe(720, 576, sar=Fraction(64, 45)), (832, 480)),
    ],
)
def test_a_clip_goes_into_the_bucket_of_its_displayed_shape(seen, expected):
    assert nearest_bucket(((832, 480), (480, 832), (640, 640)), seen) == expected


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.fractions(Fraction(1, 2), 30), st.integers(0, 5))
def test_chunks_lose_no_frame_and_share_none(frames, rate, length, first):
    seen = Probe(64, 64, Fraction(1), frames, Fraction(frames, rate), Fraction(rate), Fraction(first))
    cuts = spans(Recipe(PLAN, chunk_s=length), seen)
    times = [first + Fraction(n, rate) for n in range(frames)]
    held = [[t for t in times if (a is None or a <= t) and (b is None or t < b)] for a, b in cuts]
    assert [t for part in held for t in part] == times
    assert all(held) or length * rate < 1  # shorter than a frame, a clip may miss them all


def test_chunks_stay_within_start_and_end():
    recipe = Recipe(PLAN, ReadOptions(start=Fraction(2), end=Fraction(7)), chunk_s=Fraction(2))
    assert spans(recipe, probe()) == [(2, 4), (4, 6), (6, 7)]
