"""Latents of other programs are told from weights, and say what they are."""

import pytest
import torch
from safetensors.torch import save_file

from vidlatent.errors import BadInput
from vidlatent.jobs.exchange.inspecting import inspect_foreign


def test_weights_are_no_latents(tmp_path):
    state = {"conv.weight": torch.ones(2, 2), "conv.bias": torch.ones(2)}
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pt")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    (tmp_path / "torn.pt").write_bytes(b"torn")
    assert [inspect_foreign(path) for path in sorted(tmp_path.iterdir())] == [None] * 4


def test_latents_of_comfyui_say_their_layout(tmp_path):
    """`inspect` called them weights."""
    path = tmp_path / "x.latent"
    save_file({"latent_tensor": torch.ones(1, 16, 3, 4, 5), "latent_format_version_0": torch.ones(0)}, path)
    facts = inspect_foreign(path)
    assert facts["layout"] == "ComfyUI" and facts["latents"] == [1, 16, 3, 4, 5] and facts["axes"] == "BCTHW"
    assert facts["space"] == "raw" and facts["read_by"] == f"vidlatent import {path}"


def test_values_that_are_no_numbers_are_found_where_all_are_read(tmp_path):
    path = tmp_path / "x.pt"
    torch.save(torch.tensor([[[[1.0, float("nan")]]]]), path)
    assert inspect_foreign(path)["layout"] == "a tensor"
    with pytest.raises(BadInput, match="NaN or infinite"):
        inspect_foreign(path, verify=True)
