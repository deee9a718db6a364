"""Tiles: identity networks come back whole; blending is the reference's formula."""

import pytest
import torch

import vidlatent
from vidlatent.engine import stream
from vidlatent.engine.tiles import TileStates, fade, through_tiles
from vidlatent.precision import _knobs
from vidlatent.windows import Tiling, even_tiles


def test_fading_starts_entirely_with_the_neighbour():
    before, tile = torch.full((1, 1, 1, 1, 4), 8.0), torch.zeros(1, 1, 1, 1, 4)
    fade(before, tile, 4, dim=-1)
    assert tile.flatten().tolist() == [8, 6, 4, 2]


def test_fading_by_the_grain_gives_units_in_a_row_one_weight():
    before, tile = torch.full((1, 1, 1, 1, 4), 8.0), torch.zeros(1, 1, 1, 1, 4)
    fade(before, tile, 4, dim=-1, grain=2)
    assert tile.flatten().tolist() == [8, 8, 4, 4]


def test_fading_takes_no_more_than_either_tile_has():
    before, tile = torch.ones(1, 1, 1, 1, 2), torch.zeros(1, 1, 1, 1, 1)
    fade(before, tile, 4, dim=-1)
    assert tile.item() == 1


def test_blending_uses_neighbours_that_are_blended_already():
    """Three rows that overlap by their whole length: the last sees the first through the second."""
    tiling = Tiling(size=2, step=1, blend=2, keep=1)
    x = torch.tensor([0.0, 1.0, 2.0, 3.0]).view(1, 1, 1, 4, 1)
    values = iter([0.0, 8.0, 0.0])
    network = lambda t, _: iter([torch.full_like(t, next(values))])  # noqa: E731
    (flat,) = through_tiles(network, x, (tiling, tiling), TileStates(), more=False)
    # tile 1 = [8→0 at weight 0, 8·½]; tile 2 = [its row 0 ← tile 1's row 0 of the tail, …]
    assert flat.flatten().tolist() == [0.0, 0.0, 0.0, 2.0]


@pytest.mark.parametrize("size", [(24, 40), (64, 64), (88, 136)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_an_identity_network_comes_back_whole(size, overlap):
    toy = vidlatent.load_model("toy")
    video = torch.rand(1, 3, 9, *size) * 2 - 1
    plan = toy.plan(tile=32, overlap=overlap)
    posterior = toy.encode(video, plan)
    assert torch.allclose(toy.decode(posterior.mode(), plan), video, atol=1e-6)


def test_tiled_streaming_carries_a_state_per_tile():
    toy = vidlatent.load_model("toy")
    video = torch.rand(1, 3, 41, 48, 48) * 2 - 1
    plan = toy.plan(window=5, latent_window=2, tile=16, overlap=0.5)
    assert torch.allclose(toy.decode(toy.encode(video, plan).mode(), plan), video, atol=1e-6)


@pytest.mark.parametrize(
    ("side", "only_window", "spared"), [(40, True, True), (40, False, False), (48, True, False)]
)
def test_slivers_tile_a_side_only_when_something_must_be_cut(side, only_window, spared):
    """OD-VAE: a side between step and size goes through whole, unless time or the other side is cut."""
    tiling = Tiling(40, 24, 2, 3, slivers=True)
    assert stream.goes_whole((tiling, tiling), side, 16, only_window) is spared
    plain = even_tiles(40, 0.4, 8)[0]
    assert not stream.goes_whole((plain, plain), side, 16, only_window)


@pytest.mark.parametrize("tiles", [None, even_tiles(16, 0.25, 1)])
def test_what_a_network_computes_before_its_first_piece_is_as_exact_as_the_rest(tiles):
    seen = []

    def look(x):
        exact = all(getattr(owner, name) == value for owner, name, value in _knobs())
        seen.append(exact and torch.is_inference_mode_enabled())
        return x

    def at_once(x, state):
        return map(look, [look(x)])

    pieces = list(through_tiles(at_once, torch.zeros(1, 3, 2, 24, 24), tiles, TileStates(), more=False))
    assert pieces[0].shape[-2:] == (24, 24)
    assert seen and all(seen)
