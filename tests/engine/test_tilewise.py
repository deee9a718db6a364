"""Tile by tile through a whole clip: bit for bit what window by window gives, with the state of one tile."""

import errno

import pytest
import torch
from helpers.cases import one_thread  # noqa: F401
from helpers.random_models import random_model

from vidlatent.engine import scratch as scratch_module
from vidlatent.engine.scratch import Scratch
from vidlatent.engine.tilewise import Tilewise
from vidlatent.errors import BadInput, OutOfResources
from vidlatent.models.causal import TimeState


@pytest.fixture(scope="module", params=["pocket", "wf", "toy"])
def model(request):
    """A tiny network with random weights that carries state."""
    return random_model(request.param)


@pytest.fixture
def scratch(tmp_path):
    with Scratch(tmp_path / "clip.latent") as scratch:
        yield scratch


def clip(model, frames: int = 22) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return list(torch.rand(frames, 1, 3, 44, 70, generator=generator) * 2 - 1)


def latents_of(model, count: int = 6) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return list(torch.randn(count, 1, model.spec.channels, 6, 9, generator=generator))


def test_encode_gives_the_same_bits(model, scratch):
    frames, plan = clip(model), model.plan(window=9, tile=32, overlap=0.25)
    usual = torch.cat(list(model.encode_stream(frames, plan)), dim=2)
    tilewise = torch.cat(list(model.encode_stream(frames, plan, tilewise=Tilewise(scratch))), dim=2)
    assert torch.equal(tilewise, usual)


def test_decode_gives_the_same_bits(model, scratch):
    latents, plan = latents_of(model), model.plan(latent_window=3, tile=32, overlap=0.25)
    usual = torch.cat(list(model.decode_stream(latents, plan)), dim=2)
    tilewise = torch.cat(list(model.decode_stream(latents, plan, tilewise=Tilewise(scratch))), dim=2)
    assert usual.shape[2] == 21 and torch.equal(tilewise, usual)


def test_no_window_is_decoded_beyond_what_is_wanted(model, scratch):
    latents, plan = latents_of(model, 12), model.plan(latent_window=3, tile=32, overlap=0.25)
    usual = torch.cat(list(model.decode_stream(latents, plan)), dim=2)
    parts = list(model.decode_stream(latents, plan, tilewise=Tilewise(scratch, outputs=10)))
    some = torch.cat(parts, dim=2)
    assert 10 <= some.shape[2] < usual.shape[2]
    assert torch.equal(some, usual[:, :, : some.shape[2]])


class Counted:
    """Latents that say how often they were read from the beginning."""

    def __init__(self, items):
        self.items, self.passes = items, 0

    def __iter__(self):
        self.passes += 1
        return iter(self.items)


def test_the_source_is_read_once_for_every_tile(model, scratch):
    latents, plan = Counted(latents_of(model)), model.plan(tile=32, overlap=0.25)
    list(model.decode_stream(latents, plan, tilewise=Tilewise(scratch)))
    rows, columns = plan.tiles_to_decode
    assert latents.passes == len(rows.spans(6)) * len(columns.spans(9)) == 6


def test_the_state_of_one_tile_is_alive_at_a_time(model, scratch, monkeypatch):
    alive, most = set(), []

    class Watched(TimeState):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            alive.add(id(self))
            most.append(len(alive))

        def __del__(self):
            alive.discard(id(self))

    monkeypatch.setattr("vidlatent.engine.tilewise.TimeState", Watched)
    plan = model.plan(tile=32, overlap=0.25)
    list(model.decode_stream(latents_of(model), plan, tilewise=Tilewise(scratch)))
    assert len(most) == 6 and max(most) <= 2  # the next one is made before the name of the last is given away


def test_a_source_that_changes_meanwhile_is_refused(model, scratch):
    lengths = iter([6, 5, 6, 6, 6, 6])

    class Shrinking:
        def __iter__(self):
            return iter(latents_of(model, next(lengths)))

    with pytest.raises(BadInput, match=r"source changed while it was read: 6 .* at first, then 5"):
        list(model.decode_stream(Shrinking(), model.plan(tile=32), tilewise=Tilewise(scratch)))


def test_nothing_is_left_beside_the_target(tmp_path):
    with Scratch(tmp_path / "clip.mp4") as scratch:
        number = scratch.put(torch.arange(12.0).view(1, 3, 4))
        assert list(tmp_path.iterdir()) == []
        assert torch.equal(scratch.get(number), torch.arange(12.0).view(1, 3, 4))


def test_a_window_without_frames_waits_too(tmp_path):
    with Scratch(tmp_path / "clip.mp4") as scratch:
        numbers = [scratch.put(x) for x in (torch.zeros(1, 3, 0, 8, 8), torch.ones(2))]
        assert scratch.get(numbers[0]).shape == (1, 3, 0, 8, 8)
        assert torch.equal(scratch.get(numbers[1]), torch.ones(2))


def test_a_disk_without_room_is_found_out_after_the_first_tile(model, scratch, monkeypatch):
    monkeypatch.setattr(scratch_module, "free_bytes", lambda folder: 100)
    latents = Counted(latents_of(model))
    with pytest.raises(
        OutOfResources, match=r"clip.latent: tiles that wait .* take 0.00 GB, 0.00 GB are free"
    ):
        list(model.decode_stream(latents, model.plan(tile=32), tilewise=Tilewise(scratch)))
    assert latents.passes == 1


def test_a_disk_that_fills_up_is_named(scratch, monkeypatch):
    class Full:
        def seek(self, _):
            pass

        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr(scratch, "_file", Full())
    with pytest.raises(OutOfResources, match=r"clip\.latent: disk full"):
        scratch.put(torch.zeros(3))
