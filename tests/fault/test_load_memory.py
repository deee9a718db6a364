"""Weights are held once while they are loaded: a process with a file of many megabytes, in both formats."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from vidlatent.models.tensor_file import opened

SIZES, CHANNELS = 20, 192  # 20 convolutions of 4 MB
SCRIPT = """
import sys, torch
from pathlib import Path
from vidlatent.allocator import map_large_blocks
from vidlatent.engine.host_memory import resident_bytes
from vidlatent.engine.runtime import peak_host_bytes
from vidlatent.models.tensor_file import opened
from vidlatent.models.weights import place
map_large_blocks()
path, dtype = Path(sys.argv[1]), getattr(torch, sys.argv[2])
place(torch.ones(8, 8, 3, 3, 3), torch.empty(8, 8, 3, 3, 3), "cpu", dtype, "warm")
before = resident_bytes()
with opened(path) as file:
    held = [place(file.read(key), torch.empty(shape, device="meta"), "cpu", dtype, key)
            for key, shape in file.shapes.items()]
print(peak_host_bytes() - before, sum(tensor.nbytes for tensor in held))
"""


def write_weights(path, dtype):
    tensors = {f"conv{n}.weight": torch.rand(CHANNELS, CHANNELS, 3, 3, 3).to(dtype) for n in range(SIZES)}
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    return tensors


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the kernel's account of a child")
@pytest.mark.parametrize(
    ("name", "stored", "wanted"),
    [
        ("w.safetensors", torch.float32, "float32"),
        ("w.safetensors", torch.bfloat16, "bfloat16"),
        ("w.safetensors", torch.bfloat16, "float32"),
        ("w.pth", torch.float32, "float32"),
    ],
)
def test_no_second_copy_of_the_weights_is_held(tmp_path, name, stored, wanted):
    """Checkpoints of PyTorch are mapped: all of their pages used to stay beside the copies."""
    write_weights(tmp_path / name, stored)
    run = [sys.executable, "-c", SCRIPT, str(tmp_path / name), wanted]
    peak, held = map(int, subprocess.run(run, capture_output=True, text=True, check=True).stdout.split())
    one = held // SIZES
    assert held <= peak < held + 8 * one, f"{peak / 1e6:.0f} MB for {held / 1e6:.0f} MB"


def test_pages_that_were_let_go_can_be_read_again(tmp_path):
    tensors = write_weights(tmp_path / "w.pth", torch.float32)
    with opened(tmp_path / "w.pth") as file:
        for key, tensor in tensors.items():
            assert torch.equal(file.read(key), tensor) and torch.equal(file.read(key), tensor)
