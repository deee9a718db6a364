"""Memory as a promise: what is foretold is what is held, and limits choose how a clip goes through."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from helpers.cases import one_thread  # noqa: F401
from helpers.random_models import random_model
from torch import nn

from vidlatent.engine import memory
from vidlatent.engine.demand import Demand, UnknownLength, Workload, calls_of, demand, spans
from vidlatent.engine.footprint import LiveBytes, Network, footprint, unfolded_bytes
from vidlatent.engine.memory import Way, first_within, fit, kinds_of_ways, needed_bytes, settle, smaller_tiles
from vidlatent.engine.model import Model
from vidlatent.errors import OutOfResources, UsageError
from vidlatent.grid import Grid
from vidlatent.models.base import ModelSpec
from vidlatent.models.causal import TimeState
from vidlatent.windows import Plan, TimeRule, even_tiles

WORK = Workload(240, 320, 65)
DECODE = replace(WORK, encode=False, rereadable=True)


@pytest.fixture(scope="module")
def pocket():
    return random_model("pocket")


@pytest.fixture(scope="module")
def wf():
    return random_model("wf")


@pytest.fixture(scope="module")
def od():
    return random_model("od")


@pytest.fixture(autouse=True)
def only_the_network_counts(monkeypatch):
    """Limits here are of what a clip needs, whatever this process holds already."""
    monkeypatch.setattr(memory, "fixed_bytes", lambda model: 0)
    monkeypatch.setattr(memory, "QUEUES_BYTES", 0)


# What a clip needs


@pytest.mark.parametrize("encode", [True, False])
@pytest.mark.parametrize("kind", ["pocket", "wf"])
def test_the_state_that_is_foretold_is_the_state_that_is_kept(kind, encode, request):
    """Once traced with a state that keeps nothing, which made every promise for exact models wrong."""
    model = request.getfixturevalue(kind)
    calls = ((9, True), (8, True)) if encode else ((3, True), (2, True))
    found = footprint(Network.of(model, encode), calls, 64 if encode else 8, 96 if encode else 12)
    state, most = TimeState(), 0
    apply, channels = (model.network.encode, 3) if encode else (model.network.decode, model.spec.channels)
    for frames, state.more in calls:
        x = torch.zeros(1, channels, frames, *((64, 96) if encode else (8, 12)))
        with torch.inference_mode():
            list(apply(x.contiguous(memory_format=torch.channels_last_3d), state))
        most = max(most, state.nbytes)
    assert found.state == most > 0
    assert found.growth == 0


def test_the_state_of_all_tiles_is_held_between_windows(wf):
    need = demand(wf, wf.plan(tile=64), DECODE)
    assert need.by_window > need.tiles * need.state > 20 * need.state


def test_one_tile_at_a_time_holds_one_state(wf):
    need = demand(wf, wf.plan(tile=64), DECODE)
    assert need.by_window - need.by_tile > 0.5 * (need.tiles - 1) * need.state


def test_a_clip_of_one_window_keeps_no_state(wf):
    assert demand(wf, wf.plan(), replace(DECODE, frames=5)).state == 0


def test_windows_that_are_clips_of_their_own_keep_none(od):
    assert demand(od, od.plan(), WORK).state == 0


def test_an_undivided_clip_counts_with_all_its_frames(od):
    """It counted as one frame."""
    needs = [needed_bytes(od, od.plan(window=0), replace(WORK, frames=n)) for n in (1, 17, 33)]
    assert needs[1] > 5 * needs[0] and 1.8 < needs[2] / needs[1] < 2.2


def test_what_runs_is_what_is_counted(wf):
    """Large frames go through in shorter chunks than the plan says: see `suited`."""
    large = replace(WORK, height=720, width=1280)
    chunked = wf.plan(window=5)
    assert needed_bytes(wf, wf.plan(), large) == needed_bytes(wf, chunked, large)


@pytest.mark.parametrize(
    ("rule", "total", "calls"),
    [
        (TimeRule(4), None, ((5, True), (4, True))),
        (TimeRule(4), 5, ((5, False),)),
        (TimeRule(4), 8, ((5, True), (3, False))),
        (TimeRule(4), 99, ((5, True), (4, True))),
        (TimeRule(4, batches=True), 11, ((7, True), (4, False))),
        (TimeRule(8, 1), None, ((9, False),)),
        (TimeRule(8, 1), 7, ((7, False),)),
        (TimeRule(0), 33, ((33, False),)),
    ],
)
def test_the_calls_that_are_traced_are_the_first_ones_of_the_clip(rule, total, calls):
    assert calls_of(rule, Grid(4, 8).latents, total) == calls


class Remembering(nn.Module):
    """A network that looks at all of the past, or at `past` latents of it, each kept as it came."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.gain = nn.Parameter(torch.ones(1))

    def decode(self, latents, state):
        seen = state.growing(self)
        seen.extend((frame.clone(),) for frame in latents.split(1, dim=2))
        mean = sum(frame for (frame,) in seen) / len(seen)
        yield mean.expand_as(latents) * self.gain


def remembering(past: int = 0) -> Model:
    plan = Plan(TimeRule(4), TimeRule(4, past=past))
    return Model(
        Remembering(ModelSpec("remembering", "none", Grid(1, 1), 16, plan)), random_model("toy").runtime
    )


def state_of(model: Model, latents: int) -> int:
    return demand(model, model.spec.plan, Workload(8, 8, latents, encode=False)).state


def test_state_that_grows_with_the_clip_is_counted_to_its_end():
    """Once: what `TimeState.growing` keeps is never copied to be put together."""
    model, frame = remembering(), 16 * 4 * 8 * 8
    found = footprint(Network.of(model, False), ((5, True), (4, True)), 8, 8)
    assert found.growth == 4 * frame
    assert state_of(model, 85) - state_of(model, 45) == 40 * frame


def test_state_grows_no_further_than_the_network_looks_back():
    model = remembering(past=20)
    assert state_of(model, 21) <= state_of(model, 400) == state_of(model, 800)


def test_small_convolutions_are_unfolded_on_a_cpu():
    weight, out = torch.empty(32, 16, 3, 3, 3), torch.empty(1, 32, 4, 30, 50)
    assert unfolded_bytes(torch.empty(1, 16, 6, 32, 52), weight, out) == 16 * 27 * 4 * 30 * 50 * 4
    assert unfolded_bytes(torch.empty(1, 16, 60, 32, 52), weight, out) == 0
    assert unfolded_bytes(torch.empty(1, 16, 32, 52), weight[:, :, 0], out[:, :, 0]) == 0


def test_a_network_is_traced_once_for_all_clips_of_a_size(wf):
    for frames in (65, 66, 400):
        demand(wf, wf.plan(tile=128), replace(DECODE, frames=frames))
        traced = footprint.cache_info().misses
    demand(random_model("wf"), wf.plan(tile=128), replace(DECODE, frames=999))
    assert footprint.cache_info().misses == traced
    demand(random_model("wf", base_channels=16), wf.plan(tile=128), DECODE)
    assert footprint.cache_info().misses == traced + 1


# How it goes through: with needs that are easy to reckon


def easy(model: Model, plan: Plan, work: Workload) -> Demand:
    """100 a pixel while a tile is computed, 10 a frame of the window and pixel; 50 a pixel of state."""
    rule, tiles = (
        (plan.encode_time, plan.tiles_to_encode) if work.encode else (plan.decode_time, plan.tiles_to_decode)
    )
    if not rule.stride and work.frames is None:
        raise UnknownLength
    frames = rule.longest or work.frames
    unit = 1 if work.encode else 8
    rows, columns = spans(tiles, work.height // unit, work.width // unit, only_window=False)
    area, count = max(rows) * max(columns) * unit**2, len(rows) * len(columns)
    state = 50 * area if rule.carries else 0
    return Demand(0, (100 + 10 * frames) * area, state, 0, 0, 0, count, count)


@pytest.fixture
def reckoned(monkeypatch):
    monkeypatch.setattr(memory, "demand", easy)


PIXELS = 240 * 320


def test_a_plan_that_fits_is_left_alone(wf, reckoned):
    assert fit(wf, wf.plan(), WORK, (100 + 10 * 17 + 50) * PIXELS) == memory.Fit(wf.plan())


def test_an_exact_model_without_a_limit_runs_as_asked(wf, reckoned):
    assert settle(wf, wf.plan(), replace(WORK, height=100_000, width=100_000)) == memory.Fit(wf.plan())


def test_a_windowed_model_without_a_limit_keeps_within_what_is_free(od, reckoned, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 200 * PIXELS)
    found = settle(od, od.plan(), WORK)
    assert found.plan.encode_tiles and "tiles of" in found.notices[0]


def test_an_exact_model_takes_shorter_chunks_before_it_takes_tiles(wf, reckoned):
    found = fit(wf, wf.plan(), WORK, (100 + 10 * 5 + 50) * PIXELS)
    assert found.plan == replace(wf.plan(), encode_time=TimeRule(4)) and found.passes == 1
    assert found.notices == ("chunks of 4 frames, to keep within 0.0 GB (needs about 0.0 GB)",)


def test_chunks_of_the_other_direction_stay_as_they_are(wf, reckoned):
    found = fit(wf, wf.plan(), DECODE, (100 + 10 * 2 + 50) * PIXELS)
    assert found.plan == replace(wf.plan(), decode_time=TimeRule(1))


def test_the_largest_tiles_that_fit_are_taken(wf, reckoned):
    found = fit(wf, wf.plan(), WORK, 170 * PIXELS)
    (word,) = found.notices
    assert found.passes == 1 and f"tiles of {found.plan.encode_tiles.size} px, to keep" in word
    next_larger = [
        px for px, _ in smaller_tiles(wf.spec, wf.plan(), 320) if px > found.plan.encode_tiles.size
    ]
    larger = replace(wf.plan(tile=next_larger[-1]), encode_time=TimeRule(4))
    assert needed_bytes(wf, larger, WORK) > 170 * PIXELS


def test_the_tiles_that_were_asked_for_go_one_by_one_before_smaller_ones_are_taken(wf, reckoned):
    plan = wf.plan(latent_window=2, tile=64)
    found = fit(wf, plan, DECODE, 64 * 64 * (100 + 10 * 2 + 50))
    assert found.plan == replace(plan, decode_time=TimeRule(1)) and found.passes == 30
    assert found.notices[0].startswith("one tile after the other, to keep within 0.0 GB")
    assert "the source is read 30 times" in found.notices[0]


def test_tiles_go_one_by_one_where_the_state_of_all_is_too_large(wf, reckoned):
    found = fit(wf, wf.plan(), DECODE, 40 * PIXELS)
    tile = found.plan.decode_tiles.size * 8
    assert tile > 64 and found.passes > 1
    assert f"tiles of {tile} px, one after the other, to keep within" in found.notices[0]


def test_a_source_that_can_be_read_only_once_goes_through_once(wf, reckoned):
    with pytest.raises(OutOfResources, match="smallest plan needs"):
        fit(wf, wf.plan(), replace(DECODE, rereadable=False), 40 * PIXELS)


def test_windows_without_state_are_never_read_again(od):
    work = replace(WORK, rereadable=True)
    assert not any(way.tilewise for ways in kinds_of_ways(od, Way(od.plan(tile=128)), work) for way in ways)


def test_what_cannot_fit_says_what_would(wf, reckoned):
    large = replace(DECODE, height=2160, width=3840)
    need = (64 * 64 * (100 + 10 * 2 + 50)) / 1e9
    with pytest.raises(OutOfResources, match=f"3840x2160 does not fit 0.00 GB: .* needs about {need:.2f} GB"):
        fit(wf, wf.plan(), large, 1)


def test_no_promise_is_made_for_an_undivided_clip_of_unknown_length(od, reckoned):
    plan = od.plan(window=0, tile=0)
    found = fit(od, plan, replace(WORK, frames=None), 1)
    assert found.plan == plan and "unknown length: no promise" in found.notices[0]


def test_chunks_make_a_promise_for_an_exact_clip_of_unknown_length(wf, reckoned):
    found = fit(wf, wf.plan(window=0), replace(WORK, frames=None), 200 * PIXELS)
    assert found.plan.encode_time == TimeRule(4)


@pytest.mark.parametrize(("limit", "tight"), [(320, True), (511, True), (513, False)])
def test_free_blocks_are_kept_only_where_the_limit_leaves_room_for_them(
    wf, reckoned, monkeypatch, limit, tight
):
    held = []
    monkeypatch.setattr(memory, "hold_tight", lambda: held.append(True))
    assert fit(wf, wf.plan(), WORK, limit * PIXELS).plan == wf.plan()
    assert held == [True] * tight


def test_a_tile_as_large_as_the_frame_is_read_once(wf):
    plan = wf.plan(tile=512)
    assert needed_bytes(wf, plan, DECODE, tilewise=True) == needed_bytes(wf, plan, DECODE)


def test_tiles_shrink_by_an_eighth_down_to_the_smallest(wf):
    sizes = [px for px, _ in smaller_tiles(wf.spec, wf.plan(), 320)]
    assert sizes[0] == 312 and sizes[-1] == 64
    assert all(after <= before * 7 // 8 for before, after in pairwise(sizes[:-1]))


def test_tile_sizes_that_a_rule_does_not_take_are_left_out(wf):
    def fussy(tile: int, overlap: float):
        if tile % 96:
            raise UsageError("not of mine")
        return even_tiles(tile, overlap, 8)

    spec = replace(wf.spec, tiles=fussy)
    assert [px for px, _ in smaller_tiles(spec, wf.plan(), 320)] == [288, 192, 96]


def test_the_first_that_fits_is_found_by_halves():
    ways = [Way(Plan(TimeRule(n), TimeRule(1))) for n in range(20)]
    looked = []

    def need(way: Way) -> float:
        looked.append(way)
        return 100 - way.plan.encode_time.stride

    assert first_within(ways, 90, need) == ways[10]
    assert first_within(ways, 80, need) is None
    assert len(looked) <= 10


# State that grows with the clip


@pytest.fixture(scope="module")
def hunyuan15():
    return random_model("hunyuan15")


@pytest.mark.parametrize("encode", [True, False])
def test_state_that_grows_is_counted_for_the_whole_clip_or_as_far_as_the_past_allows(hunyuan15, encode):
    each = hunyuan15.spec.grows * 4 * (240 // 16) * (320 // 16)  # bytes of a latent frame
    longer, long, limited = (
        demand(hunyuan15, plan, Workload(240, 320, frames, encode)).state
        for plan, frames in ((hunyuan15.plan(), 641), (hunyuan15.plan(), 321), (hunyuan15.plan(past=8), 641))
    )
    assert longer - long == pytest.approx(80 * each)
    assert limited < long


def test_what_does_not_fit_for_its_growing_state_says_how_far_back_it_may_look(hunyuan15):
    way = list(kinds_of_ways(hunyuan15, Way(hunyuan15.plan()), Workload(240, 320, 4001)))[-1][-1]
    limit = int(needed_bytes(hunyuan15, way.plan, Workload(240, 320, 2001), way.tilewise))
    with pytest.raises(
        OutOfResources, match=r"hint: its first 20\d\d frames fit: past 50\d looks no further"
    ):
        fit(hunyuan15, hunyuan15.plan(), Workload(240, 320, 4001), limit)
    found = fit(hunyuan15, hunyuan15.plan(past=400), Workload(240, 320, 4001), limit)
    assert found.plan.encode_time.past == 400


def test_a_view_of_a_weight_takes_no_memory():
    weight = torch.empty(40, 50)
    with LiveBytes([weight]) as meter:
        assert weight.view(-1)[7:].t().shape == (1993,)
        assert not meter.peak
        copy = weight.t().contiguous()
    assert meter.live == meter.peak == copy.nbytes
