"""What is surely enough memory is never less than what a trace finds, and spares the trace."""

import json
from dataclasses import replace
from math import isinf

import pytest
import torch
from helpers.random_models import random_model

from vidlatent.engine import demand, memory
from vidlatent.engine.demand import Workload, calls_of
from vidlatent.engine.footprint import Network, footprint
from vidlatent.engine.memory import Fit, needed_bytes, settle
from vidlatent.engine.room import bound_footprint, find_most_channels, most_bytes
from vidlatent.models import registry
from vidlatent.models.base import ModelSpec

WORK = Workload(64, 96, 33)
FRAMES = 33
QUICK = ("cv-vae-sd3",)  # of the named models that are looked at each time
WINDOWED = [
    pytest.param(spec, id=spec.name, marks=() if spec.name in QUICK else pytest.mark.slow)
    for spec in registry.specs()
    if not (spec.plan.encode_time.carries and spec.plan.decode_time.carries)
]


@pytest.fixture(scope="module")
def od():
    return random_model("od")


def both_ways(spec: ModelSpec, side: int) -> list[tuple]:
    """Whether it is encoding, the calls of a clip, and the side of what goes in."""
    grid, plan = spec.grid, spec.plan
    latents = grid.latents(FRAMES)
    decode = False, calls_of(plan.decode_time, grid.frames, latents), side // grid.space
    return [(True, calls_of(plan.encode_time, grid.latents, grid.frames(latents)), side), decode]


@pytest.mark.parametrize("side", [64, pytest.param(256, marks=pytest.mark.slow)])
@pytest.mark.parametrize("spec", WINDOWED)
def test_no_trace_finds_more_than_the_bound(spec, side):
    with torch.device("meta"):
        built = registry.family(spec.family).build(spec)
    config = json.dumps([dict(spec.config), dict(spec.settings)], sort_keys=True, default=str)
    for encode, calls, length in both_ways(spec, side):
        network = Network(type(built), config, torch.float32, encode, spec)
        found = footprint(network, calls, length, length)
        most = bound_footprint(find_most_channels(built), network, calls, length, length)
        assert found.work + found.state <= most.work


@pytest.mark.parametrize("encode", [True, False])
def test_what_a_clip_needs_is_within_the_bound(od, encode):
    work = replace(WORK, encode=encode)
    assert needed_bytes(od, od.plan(), work) <= most_bytes(od, od.plan(), work) < 1 << 34


def test_a_clip_that_surely_has_room_is_not_traced(od, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1 << 50)
    monkeypatch.setattr(memory, "needed_bytes", lambda *_: pytest.fail("traced"))
    assert settle(od, od.plan(), WORK) == Fit(od.plan())


def test_a_clip_that_may_have_room_is_traced(od, monkeypatch):
    traced, really = [], demand.footprint
    monkeypatch.setattr(memory, "fixed_bytes", lambda model: 0)
    monkeypatch.setattr(memory, "QUEUES_BYTES", 0)
    most = int(most_bytes(od, od.plan(), WORK))
    monkeypatch.setattr(memory, "available_bytes", lambda device: most)
    monkeypatch.setattr(memory, "demand", lambda *said: traced.append(said) or demand.demand(*said, really))
    assert settle(od, od.plan(), WORK) == Fit(od.plan()) and len(traced) == 1


@pytest.mark.parametrize("work", [WORK, replace(WORK, encode=False)], ids=["encode", "decode"])
def test_what_carries_state_has_no_bound(work):
    wf = random_model("wf")
    assert isinf(most_bytes(wf, wf.plan(), work))


def test_a_clip_of_unknown_length_in_one_piece_has_no_bound(od):
    whole = od.plan(window=0)
    assert isinf(most_bytes(od, whole, replace(WORK, frames=None)))
