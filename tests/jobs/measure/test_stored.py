"""Forms that latents are kept in: what comes back, and what it costs."""

import pytest
import torch

from vidlatent.errors import UsageError
from vidlatent.jobs.measure.stored import find_form


@pytest.mark.parametrize(("name", "bits"), [("fp32", 32), ("fp16", 16), ("bf16", 16)])
def test_a_dtype_costs_its_bits_and_gives_back_what_it_can_hold(name, bits):
    latents = torch.linspace(-1, 1, 2 * 4 * 3 * 5).reshape(1, 4, 2, 3, 5)
    kept, counted = find_form(name).keep(latents)
    assert counted == bits * latents.numel()
    assert kept.shape == latents.shape and torch.allclose(kept.float(), latents, atol=2**-8)
    assert torch.equal(kept.float(), latents) == (name == "fp32")


def test_a_form_that_there_is_not_is_named():
    with pytest.raises(UsageError, match="int3: unknown"):
        find_form("int3")
