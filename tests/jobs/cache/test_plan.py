"""Shards by cost, buckets by shape, long videos into clips."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidlatent.errors import UsageError
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.cache.buckets import choose_bucket
from vidlatent.jobs.cache.plan import ALL, Part, choose_device, choose_part, pick_share
from vidlatent.jobs.cache.recipe import Recipe, cut_into_clips, cut_into_spans
from vidlatent.jobs.reading.survey import Probe
from vidlatent.windows import Plan, TimeRule

PLAN = Plan(TimeRule(16), TimeRule(4))
RANK = {"RANK": "3", "WORLD_SIZE": "8"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none"}
BATCH = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}
STEP = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1"}
costs = st.lists(st.integers(1, 10_000), max_size=60)


def array(task, count, first, last, step) -> dict[str, str]:
    """What SLURM tells a task of a job array."""
    values = {"ID": task, "COUNT": count, "MIN": first, "MAX": last, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


def probe(width=640, height=480, seconds=10, rate=25, first=0, sar=1) -> Probe:
    frames = round(seconds * rate)
    length = Fraction(frames, rate)
    return Probe(width, height, Fraction(sar), frames, length, Fraction(rate), Fraction(first))


@settings(deadline=None)
@given(costs, st.integers(1, 7))
def test_shards_part_all_clips_and_none_twice(sizes, count):
    named = [(size, f"clip{n}") for n, size in enumerate(sizes)]
    parts = [pick_share(named, Part(index, count)) for index in range(count)]
    assert sorted(n for part in parts for n in part) == list(range(len(named)))


@settings(deadline=None)
@given(costs, st.integers(1, 7))
def test_no_shard_has_more_than_the_fair_share_and_one_clip(sizes, count):
    named = [(size, f"clip{n}") for n, size in enumerate(sizes)]
    loads = [sum(sizes[n] for n in pick_share(named, Part(index, count))) for index in range(count)]
    assert max(loads) <= sum(sizes) / count + max(sizes, default=0)


@settings(deadline=None)
@given(costs, st.randoms())
def test_shares_do_not_depend_on_the_order_of_clips(sizes, random):
    named = [(size, f"clip{n}") for n, size in enumerate(sizes)]
    shuffled = random.sample(named, len(named))
    first, second = ({clips[n] for n in pick_share(clips, Part(0, 3))} for clips in (named, shuffled))
    assert first == second


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Part(0, 1)),
        (RANK | TORCHRUN, Part(3, 8)),
        (
            {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "4"},
            Part(1, 4),
        ),
        (BATCH | STEP, Part(1, 4)),
        (BATCH | STEP | {"SLURM_STEP_NUM_TASKS": "2"}, Part(1, 2)),
        (BATCH | STEP | RANK | TORCHRUN, Part(3, 8)),
        (array(7, 4, 1, 10, 3), Part(2, 4)),  # --array=1-10:3 is 1, 4, 7 and 10
        (array(7, 4, 1, 10, 3) | BATCH | STEP, Part(9, 16)),
        (array(7, 4, 1, 10, 3) | BATCH, Part(2, 4)),
    ],
)
def test_a_shard_comes_from_torchrun_or_slurm(environment, expected):
    part = choose_part(None, environment)
    assert part == expected and bool(part.told_by) == bool(environment)


@pytest.mark.parametrize(
    "environment",
    [
        RANK,  # set for another program
        BATCH,  # an sbatch script, outside srun
        BATCH | {"SLURM_PROCID": "0", "SLURM_STEP_ID": str(0xFFFFFFFB)},  # the step that is that script
        BATCH | {"SLURM_PROCID": "0", "SLURM_STEP_ID": str(0xFFFFFFFA)},  # a shell that salloc opened
    ],
)
def test_outside_a_real_step_all_clips_are_meant(environment):
    part = choose_part(None, environment)
    assert part == ALL and not part.told_by
    assert choose_device(environment) is None


def test_the_gpu_is_that_of_the_step(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert choose_device(TORCHRUN | {"LOCAL_RANK": "6"}) == "cuda:2"
    assert choose_device(STEP | {"SLURM_LOCALID": "1"}) == "cuda:1"
    assert choose_device({"LOCAL_RANK": "6", "SLURM_LOCALID": "1"}) is None


@pytest.mark.parametrize("environment", [array(6, 4, 1, 10, 3), array(5, 3, 1, 9, 1), array("x", 4, 1, 4, 1)])
def test_array_tasks_that_cannot_be_placed_are_refused_in_words(environment):
    """A list with gaps, like --array=1,5,9, names no even steps: nobody knows which part is whose."""
    with pytest.raises(UsageError, match=r"job array of|not a number") as e:
        choose_part(None, environment)
    assert "shard I/N" in e.value.hint


def test_what_is_said_goes_before_the_environment():
    assert choose_part("1/2", {"RANK": "3", "WORLD_SIZE": "8"}) == Part(1, 2)


@pytest.mark.parametrize("text", ["2/2", "1", "a/b", "-1/2", "0/0"])
def test_shards_that_cannot_be_are_refused(text):
    with pytest.raises(UsageError, match=r"^shard "):
        choose_part(text, {})


@pytest.mark.parametrize(("text", "first"), [("2/2", "0/2"), ("0/0", "0/1")])
def test_the_first_shard_that_can_be_is_named(text, first):
    with pytest.raises(UsageError, match=f"{first} is the first"):
        choose_part(text, {})


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
    assert choose_bucket(((832, 480), (480, 832), (640, 640)), seen) == expected


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.fractions(Fraction(1, 2), 30), st.integers(0, 5))
def test_chunks_lose_no_frame_and_share_none(frames, rate, length, first):
    seen = Probe(64, 64, Fraction(1), frames, Fraction(frames, rate), Fraction(rate), Fraction(first))
    cuts = cut_into_spans(Recipe(PLAN, chunk_s=length), seen)
    times = [first + Fraction(n, rate) for n in range(frames)]
    held = [[t for t in times if (a is None or a <= t) and (b is None or t < b)] for a, b in cuts]
    assert [t for part in held for t in part] == times
    assert all(held) or length * rate < 1  # shorter than a frame, a clip may miss them all


def test_chunks_shorter_than_a_frame_make_no_clips():
    """Each was a clip that failed."""
    (cut,) = cut_into_clips(Recipe(PLAN, chunk_s=Fraction(1, 100)), probe())
    assert cut.left_out == "chunks of 0.01 s are shorter than a frame, 0.04 s"
    with pytest.raises(UsageError, match=r"chunk_s 0\.05: is less than a frame, with fps 10"):
        Recipe(PLAN, ReadOptions(fps=Fraction(10)), chunk_s=Fraction(1, 20))


def test_chunks_stay_within_start_and_end():
    recipe = Recipe(PLAN, ReadOptions(start=Fraction(2), end=Fraction(7)), chunk_s=Fraction(2))
    assert cut_into_spans(recipe, probe()) == [(2, 4), (4, 6), (6, 7)]
