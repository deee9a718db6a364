"""Plans as users ask for them: by name, by windows, by how far growing memory may look back."""

from dataclasses import replace

import pytest

from vidlatent.engine.plan import PlanWishes, plan_for, suited
from vidlatent.errors import UsageError
from vidlatent.models import registry
from vidlatent.windows import TimeRule, even_tiles

HUNYUAN = registry.find("hunyuan-video")
HUNYUAN15 = registry.find("hunyuan-video-1.5")
COGVIDEOX = registry.find("cogvideox-2b")
POCKET = registry.find("pocket")


def test_a_plan_is_chosen_by_its_name_and_may_then_be_changed():
    authors = plan_for(HUNYUAN, PlanWishes(name="authors"))
    assert authors == HUNYUAN.plans["authors"] != HUNYUAN.plan
    whole_frames = plan_for(HUNYUAN, PlanWishes(name="authors", tile=0))
    assert whole_frames.decode_time == authors.decode_time and whole_frames.decode_tiles is None


def test_a_name_that_no_plan_has_is_an_error_that_lists_the_names():
    with pytest.raises(UsageError, match=r"name paper: hunyuan-video.*\n.*diffusers, authors, undivided"):
        plan_for(HUNYUAN, PlanWishes(name="paper"))
    with pytest.raises(UsageError, match=r"name paper: pocket.*\n.*none of its plans has a name"):
        plan_for(POCKET, PlanWishes(name="paper"))


def test_windows_by_the_models_own_rule_are_those_of_its_plans():
    asked = plan_for(HUNYUAN, PlanWishes(window=65, latent_window=17))
    authors = HUNYUAN.plans["authors"]
    assert (asked.encode_time, asked.decode_time) == (authors.encode_time, authors.decode_time)
    assert plan_for(HUNYUAN, PlanWishes(window=17, latent_window=5)) == HUNYUAN.plan
    assert plan_for(HUNYUAN, PlanWishes(window=33)).encode_time == TimeRule(24, 9, blend=2)


def test_without_windows_the_plan_is_the_undivided_one():
    assert plan_for(HUNYUAN, PlanWishes(window=0, latent_window=0)) == HUNYUAN.plans["undivided"]


@pytest.mark.parametrize(
    ("wish", "said"), [({"window": 21}, "window 21: .*"), ({"latent_window": 6}, "latent_window 6: .*")]
)
def test_windows_that_the_models_rule_does_not_know_are_refused_in_words(wish, said):
    with pytest.raises(UsageError, match=said + r"share a quarter.*\n.*for instance 17 or 33"):
        plan_for(HUNYUAN, PlanWishes(**wish))


def test_the_past_is_limited_both_ways_and_kept_where_chunks_are_suited():
    plan = plan_for(HUNYUAN15, PlanWishes(past=8))
    assert plan.encode_time == TimeRule(16, past=8) and plan.decode_time == TimeRule(4, past=8)
    assert plan.encode_time.exact
    large = suited(plan, HUNYUAN15, 1080, 1920)
    assert large.encode_time == TimeRule(4, past=8) and large.decode_time == TimeRule(1, past=8)


def test_chunks_of_an_exact_model_are_shortened_once_frames_are_too_large_for_them():
    fit, larger = (suited(POCKET.plan, POCKET, height, 854) for height in (480, 481))
    assert fit == POCKET.plan and (fit.encode_time.stride, fit.decode_time.stride) == (8, 4)
    assert (larger.encode_time.stride, larger.decode_time.stride) == (8, 3)


def test_chunks_that_a_user_chose_are_not_suited():
    asked = plan_for(POCKET, PlanWishes(window=17, latent_window=9))
    assert suited(asked, POCKET, 1080, 1920) == asked
    half = plan_for(POCKET, PlanWishes(window=17))
    assert suited(half, POCKET, 1080, 1920).decode_time.stride == 1, "the other way is still the model's"


def test_a_limit_of_nothing_is_the_whole_past():
    assert plan_for(HUNYUAN15, PlanWishes(past=0)).decode_time.past == 0


def test_a_limit_of_the_past_where_nothing_grows_is_an_error():
    with pytest.raises(UsageError, match="past 8: hunyuan-video remembers as much of a long clip"):
        plan_for(HUNYUAN, PlanWishes(past=8))
    with pytest.raises(UsageError, match="past -1"):
        plan_for(HUNYUAN15, PlanWishes(past=-1))


def test_wishes_change_the_plan_of_a_file_where_they_say_something():
    rows = even_tiles(64, 0.5, 16, slivers=True)
    own = replace(plan_for(HUNYUAN15, PlanWishes(past=8)), encode_tiles=rows[0], decode_tiles=rows[1])
    assert plan_for(HUNYUAN15, PlanWishes(), own) == own
    assert plan_for(HUNYUAN15, PlanWishes(past=2), own).decode_time.past == 2
    assert plan_for(HUNYUAN15, PlanWishes(tile=0), own).decode_time.past == 8
    assert plan_for(HUNYUAN15, PlanWishes(overlap=0.25), own).decode_tiles.size == 4, "tiles of the file"


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"window": 1}, r"window 1: pocket takes windows of 1 \+ 4·k frames, for instance 5 or 9"),
        ({"window": 4}, "window 4: .* for instance 5 or 9"),
        ({"window": 11}, "window 11: .* for instance 9 or 13"),
        ({"latent_window": 1}, "latent_window 1: pocket takes at least 2 latents"),
        ({"tile": 8}, "tile 8: pocket takes multiples of 8 px, for instance 16 or 24"),
        ({"tile": 100}, "tile 100: .* for instance 96 or 104"),
        ({"tile": 28}, "tile 28: .* for instance 24 or 32"),
        ({"overlap": 0.5}, "overlap means nothing without tiles"),
        ({"tile": 64, "overlap": 1.0}, "overlap 1.0: must be a fraction from 0 to below 1"),
        ({"tile": 64, "overlap": -0.1}, "overlap -0.1: must be a fraction"),
    ],
    ids=str,
)
def test_wishes_that_cannot_be_are_refused_with_one_that_can(wish, said):
    with pytest.raises(UsageError, match=said):
        plan_for(POCKET, PlanWishes(**wish))


@pytest.mark.parametrize("overlap", [None, 0.5])
def test_tiles_share_what_is_asked_for_and_else_what_the_model_says(overlap):
    plan = plan_for(POCKET, PlanWishes(tile=64, overlap=overlap))
    given = POCKET.tile_overlap if overlap is None else overlap
    assert (plan.encode_tiles, plan.decode_tiles) == POCKET.tiles(64, given)
    assert POCKET.tile_overlap != 0.5


@pytest.mark.parametrize("overlap", [None, 0.5])
def test_tiles_that_are_wider_than_high_share_columns_by_a_number_of_their_own(overlap):
    plan, columns = plan_for(COGVIDEOX, PlanWishes(tile=240, overlap=overlap)), COGVIDEOX.tile_columns
    given = columns.overlap if overlap is None else overlap
    assert (plan.encode_columns, plan.decode_columns) == COGVIDEOX.tiles(360, given)
    assert (plan.encode_columns.size, plan.decode_columns.size) == (360, 45)


def test_the_nearest_wishes_that_can_be_are_followed():
    assert plan_for(POCKET, PlanWishes(window=5)).encode_time == TimeRule(4)
    assert plan_for(POCKET, PlanWishes(latent_window=2)).decode_time == TimeRule(1)
    assert plan_for(POCKET, PlanWishes(tile=16, overlap=0.0)).encode_tiles.size == 16
