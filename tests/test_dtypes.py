"""One table of dtypes: its three names mean the same thing."""

import pytest
import torch
from safetensors.torch import load, save

from vidlatent.dtypes import DTYPES, STORED_DTYPES
from vidlatent.engine.runtime import Runtime
from vidlatent.io.latent.layout import ITEM_BYTES
from vidlatent.io.tensors import TORCH_DTYPES


@pytest.mark.parametrize("name", DTYPES)
def test_torch_and_safetensors_agree_on_what_a_name_means(name):
    runtime = Runtime.choose("cpu", name)
    stored = save({"x": torch.zeros(3, dtype=runtime.dtype)})
    assert f'"dtype":"{DTYPES[name].stored}"'.encode() in stored
    assert load(stored)["x"].dtype == runtime.dtype == TORCH_DTYPES[DTYPES[name].stored]
    assert runtime.dtype.itemsize == ITEM_BYTES[DTYPES[name].stored]
    assert runtime.dtype_name == name


def test_files_know_the_dtypes_by_these_names_in_this_order():
    """The order stands in error messages; the names stand in files."""
    assert STORED_DTYPES == ("F32", "F16", "BF16")
    assert tuple(DTYPES) == ("fp32", "fp16", "bf16")
