"""Sizes of clips: chosen by shape, derived from an area, and only such as the model takes."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidlatent.errors import UsageError
from vidlatent.grid import Grid
from vidlatent.jobs.cache.buckets import BucketWishes, Smaller, derive_buckets, refuse_off_grid
from vidlatent.jobs.cache.recipe import Recipe, adapt_to_clip, cut_into_clips
from vidlatent.jobs.reading.survey import Probe
from vidlatent.windows import Plan, TimeRule

PLAN = Plan(TimeRule(16), TimeRule(4))
GRID = Grid(4, 8)


def seen(width: int, height: int, frames: int = 50, sar: Fraction = Fraction(1)) -> Probe:
    return Probe(width, height, sar, frames, Fraction(frames, 25), Fraction(25))


def test_buckets_of_an_area_are_those_of_musubi_tuner():
    found = derive_buckets((832, 480), 16)
    assert (832, 480) in found and (480, 832) in found
    shorter = sorted({min(size) for size in found})
    assert shorter[:2] == [304, 320] and shorter[-1] == 624, "from half the square's side to all of it"
    assert len(found) == len(set(found)) and all(size[::-1] in found for size in found)


@settings(deadline=None)
@given(st.integers(64, 2000), st.integers(64, 2000), st.sampled_from([8, 16, 32]))
def test_no_bucket_is_larger_than_the_area_or_off_its_steps(width, height, step):
    for size in derive_buckets((width, height), step):
        assert size[0] * size[1] <= width * height and not size[0] % step and not size[1] % step


def test_the_step_is_what_model_and_trainers_take():
    assert BucketWishes(area=(832, 480)).choose_step(GRID) == 16
    assert BucketWishes(area=(832, 480)).choose_step(Grid(8, 32)) == 32
    with pytest.raises(
        UsageError, match=r"bucket_step 20: .* steps of 8 pixels\nhint: the nearest: 16 or 24"
    ):
        BucketWishes(area=(832, 480), step=20).buckets(GRID)


def test_a_side_that_the_model_does_not_take_is_refused_and_the_nearest_named():
    refuse_off_grid(((832, 480), (480, 832, 81)), GRID)
    with pytest.raises(UsageError, match=r"buckets 854x480: .* steps of 8\nhint: the nearest is 856x480"):
        refuse_off_grid(((832, 480), (854, 480)), GRID)


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        (BucketWishes(((64, 64),), (64, 64)), "leave one out"),
        (BucketWishes(area=(8, 8)), "holds no bucket"),
    ],
)
def test_wishes_that_contradict_are_refused(wishes, words):
    with pytest.raises(UsageError, match=words):
        wishes.buckets(GRID)
    with pytest.raises(UsageError, match="no_upscale: nothing is scaled"):
        BucketWishes(upscale=False).smaller((), GRID)


@pytest.mark.parametrize(
    ("probe", "size"),
    [(seen(1920, 1080), (832, 464)), (seen(330, 250), (320, 240)), (seen(10, 300), (16, 288))],
)
def test_small_clips_are_not_scaled_up(probe, size):
    recipe = Recipe(PLAN, buckets=((832, 464), (464, 832)), smaller=Smaller(832 * 480, 16))
    assert adapt_to_clip(recipe, probe).read.size == size


def test_a_bucket_may_say_how_many_frames():
    buckets = ((64, 32, 9), (64, 32, 41), (32, 64, 5))
    recipe = Recipe(PLAN, buckets=buckets)

    def clip(probe: Probe) -> tuple:
        own = adapt_to_clip(recipe, probe)
        (cut,) = cut_into_clips(own, probe)
        return own.read.size, cut.frames, cut.left_out

    assert clip(seen(640, 320)) == ((64, 32), 41, "")
    assert clip(seen(640, 320, frames=40)) == ((64, 32), 9, "")
    assert clip(seen(320, 640)) == ((32, 64), 5, "")
    assert clip(seen(640, 320, frames=8))[2] == "8 frames, the shortest clip has 9"
    with pytest.raises(UsageError, match="some say a number of frames"):
        Recipe(PLAN, buckets=((64, 32, 9), (32, 64)))
