"""A limit on memory is kept by real processes: whole and tiled, with state and in windows."""

import json
import sys

import pytest
from helpers import warm
from helpers.random_models import publish_random

# Run in a process of its own: zeros go through a model, under a limit on all that the process takes.
MAIN = """
import json, sys
from pathlib import Path
import numpy as np, torch
import vidlatent
from vidlatent.allocator import map_large_blocks
from vidlatent.engine.demand import Workload
from vidlatent.engine.host_memory import resident_bytes
from vidlatent.engine.memory import fit, needed_bytes
from vidlatent.engine.runtime import peak_host_bytes
from vidlatent.engine.tilewise import Tilewise
map_large_blocks()
folder, way, frames, tile, share, scratch = json.loads(sys.argv[1])
model = vidlatent.load_model(folder, "cpu")
encode, grid, (height, width) = way == "encode", model.spec.grid, (256, 448)
work = Workload(height, width, frames, encode, rereadable=True)
plan = model.plan(tile=tile)
asked = needed_bytes(model, plan, work)
limit = resident_bytes() + round(share * asked) + (200 << 20)
settled = fit(model, plan, work, limit)
with settled.scratch(Path(scratch)) as waiting:
    tilewise = waiting and Tilewise(waiting)
    if encode:
        clip = [np.zeros((height, width, 3), np.uint8)] * frames
        windows = model.encode_stream(clip, settled.plan, tilewise=tilewise)
    else:
        latents = [torch.zeros(1, model.spec.channels, height // grid.space, width // grid.space)]
        windows = model.decode_stream(latents * grid.latents(frames), settled.plan, tilewise=tilewise)
    for window in windows:
        del window
print(json.dumps([peak_host_bytes(), limit, settled.passes, list(settled.notices)]))
"""
WIDE = {"wf": {"base_channels": 32}, "pocket": {"width": 64}, "od": {}}
slow = pytest.mark.slow
CASES = [  # kind, way, frames, tile, part of what the plan as asked needs, words of what is done about it
    pytest.param("wf", "encode", 25, None, 1.0, "", id="state, whole, encode"),
    pytest.param("wf", "decode", 9, None, 0.4, "after", id="state, tile by tile, decode", marks=slow),
    pytest.param("od", "encode", 9, None, 0.5, "tiles", id="windows, tiled, encode"),
    pytest.param("wf", "decode", 13, None, 1.0, "", id="state, whole, decode", marks=slow),
    pytest.param("wf", "decode", 13, 128, 1.0, "", id="state of all tiles, decode", marks=slow),
    pytest.param("wf", "encode", 25, 128, 0.6, "", id="state, tiles, encode", marks=slow),
    pytest.param("od", "decode", 9, None, 0.5, "tiles", id="windows, tiled, decode", marks=slow),
    pytest.param("od", "encode", 9, None, 1.0, "", id="windows, whole, encode", marks=slow),
    pytest.param("pocket", "encode", 33, None, 1.0, "", id="light, whole, encode", marks=slow),
    pytest.param("pocket", "decode", 33, 128, 1.0, "", id="light, tiled, decode", marks=slow),
]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the kernel's account of a child")
@pytest.mark.parametrize(("kind", "way", "frames", "tile", "share", "done"), CASES)
def test_a_process_keeps_within_its_limit(tmp_path, kind, way, frames, tile, share, done):
    folder = publish_random(kind, tmp_path / "model", **WIDE[kind])
    asked = json.dumps([str(folder), way, frames, tile, share, str(tmp_path / "clip")])
    run = warm.run(["-c", MAIN, asked], capture_output=True, text=True, check=True)
    peak, limit, passes, notices = json.loads(run.stdout)
    assert peak <= limit, f"{peak / 1e6:.0f} MB of {limit / 1e6:.0f}, {notices}"
    assert (
        done in "".join(notices)
        and bool(notices) >= bool(done)
        and (passes > 1) == ("after" in "".join(notices))
    )
