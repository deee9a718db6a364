"""Weights are held once while they are loaded: processes with files of many megabytes, in both formats."""

import json
import sys

import pytest
import torch
from helpers import warm
from safetensors.torch import save_file

from vidlatent.models.tensor_file import opened

SIZES, CHANNELS = 20, 192  # 20 convolutions of 4 MB
CASES = {  # the file, the dtype of its tensors, and the one that they are wanted in
    "as they are": ("w.safetensors", torch.float32, "float32"),
    "half": ("half.safetensors", torch.bfloat16, "bfloat16"),
    "made larger": ("half.safetensors", torch.bfloat16, "float32"),
    "of PyTorch": ("w.pth", torch.float32, "float32"),
}
# One process imports torch, and each file is loaded in a child of it, which has a peak of its own.
SCRIPT = """
import json, os, sys, torch
from pathlib import Path
from vidlatent.allocator import map_large_blocks
from vidlatent.engine.host_memory import resident_bytes
from vidlatent.engine.runtime import peak_host_bytes
from vidlatent.models.tensor_file import opened
from vidlatent.models.weights import place

def measure(path, dtype):
    place(torch.ones(8, 8, 3, 3, 3), torch.empty(8, 8, 3, 3, 3), "cpu", dtype, "warm")
    before = resident_bytes()
    with opened(path) as file:
        held = [place(file.read(key), torch.empty(shape, device="meta"), "cpu", dtype, key)
                for key, shape in file.shapes.items()]
    print(peak_host_bytes() - before, sum(tensor.nbytes for tensor in held), flush=True)

map_large_blocks()
torch.set_num_threads(1)
for path, dtype in json.loads(sys.argv[1]):
    if os.fork() == 0:
        measure(Path(path), getattr(torch, dtype))
        os._exit(0)
    assert os.wait()[1] == 0
"""


def write_weights(path, dtype):
    tensors = {f"conv{n}.weight": torch.rand(CHANNELS, CHANNELS, 3, 3, 3).to(dtype) for n in range(SIZES)}
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    return tensors


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the kernel's account of a child")
def test_no_second_copy_of_the_weights_is_held(tmp_path):
    """Checkpoints of PyTorch are mapped: all of their pages used to stay beside the copies."""
    for name, stored, _ in CASES.values():
        write_weights(tmp_path / name, stored)
    asked = json.dumps([(str(tmp_path / name), wanted) for name, _, wanted in CASES.values()])
    run = warm.run(["-c", SCRIPT, asked], capture_output=True, text=True, check=True)
    for case, line in zip(CASES, run.stdout.splitlines(), strict=True):
        peak, held = map(int, line.split())
        one = held // SIZES
        assert held <= peak < held + 8 * one, f"{case}: {peak / 1e6:.0f} MB for {held / 1e6:.0f} MB"


def test_pages_that_were_let_go_can_be_read_again(tmp_path):
    tensors = write_weights(tmp_path / "w.pth", torch.float32)
    with opened(tmp_path / "w.pth") as file:
        for key, tensor in tensors.items():
            assert torch.equal(file.read(key), tensor) and torch.equal(file.read(key), tensor)
