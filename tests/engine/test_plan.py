"""From what a user asks to a plan, or an error that names what would fit."""

from dataclasses import replace
from functools import partial

import pytest

from vidlatent.engine.plan import plan_for
from vidlatent.errors import UsageError
from vidlatent.grid import Grid
from vidlatent.models import registry
from vidlatent.models.base import TileColumns
from vidlatent.windows import Plan, Tiling, TimeRule, even_tiles

TOY = registry.find("toy")
BATCHED = replace(
    TOY,
    name="batched",
    grid=Grid(4, 8, pairs=True),
    plan=Plan(TimeRule(8, batches=True), TimeRule(2, batches=True)),
    tiles=partial(even_tiles, space=8),
    tile_overlap=1 / 6,
    tile_columns=TileColumns(1.5, 1 / 5),
)


def test_batches_stay_batches_however_long():
    plan = plan_for(BATCHED, window=17, latent_window=5)
    assert plan.encode_time == TimeRule(16, batches=True)
    assert plan.decode_time == TimeRule(4, batches=True)
    undivided = plan_for(BATCHED, window=0, latent_window=0)
    assert undivided.encode_time == undivided.decode_time == TimeRule(0, batches=True)


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"window": 13}, r"batched takes windows of 1 \+ 8·k frames, for instance 9 or 17"),
        ({"window": 5}, r"batched takes windows of 1 \+ 8·k frames, for instance 9 or 17"),
        ({"latent_window": 4}, r"batched takes 1 \+ 2·k latents"),
        ({"latent_window": 2}, r"batched takes 1 \+ 2·k latents"),
    ],
)
def test_batches_hold_pairs_of_latents(wish, told):
    with pytest.raises(UsageError, match=told):
        plan_for(BATCHED, **wish)


def test_an_undivided_plan_blends_nothing():
    blended = replace(TOY, plan=Plan(TimeRule(12, 5), TimeRule(3, 2, blend=4)))
    assert plan_for(blended, window=0, latent_window=0) == Plan(TimeRule(0, 5), TimeRule(0, 2))
    assert plan_for(blended, latent_window=8).decode_time == TimeRule(6, 2, blend=4)


def test_tiles_may_be_wider_than_high():
    plan = plan_for(BATCHED, tile=240)
    assert plan.tiles_to_encode == (Tiling(240, 200, 5, 25), Tiling(360, 288, 9, 36))
    assert plan.tiles_to_decode == (Tiling(30, 25, 40, 200), Tiling(45, 36, 72, 288))


def test_a_wish_for_an_overlap_holds_for_rows_and_columns():
    rows, columns = plan_for(BATCHED, tile=160, overlap=0.25).tiles_to_encode
    assert (rows.size, rows.blend, columns.size, columns.blend) == (160, 5, 240, 8)


def test_the_width_of_a_tile_is_rounded_down_to_whole_latents():
    assert plan_for(BATCHED, tile=72).encode_columns.size == 104


def test_no_tiles_at_all_where_none_are_wished():
    default = plan_for(BATCHED, tile=240)
    tiled = replace(BATCHED, plan=default)
    assert plan_for(tiled).tiles_to_encode == default.tiles_to_encode
    whole = plan_for(tiled, tile=0)
    assert whole.tiles_to_encode is None and whole.tiles_to_decode is None
    assert whole.encode_columns is None and whole.decode_columns is None
