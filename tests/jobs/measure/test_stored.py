"""Forms that latents are kept in: what comes back, and what it costs."""

import pytest
import torch

from vidlatent.errors import UsageError
from vidlatent.jobs.measure.stored import check_name, find_drop, find_form, keep_all


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


def test_int8_costs_its_codes_and_steps_and_gives_back_what_files_do():
    latents = torch.randn(20, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    kept = list(keep_all(find_form("int8"), iter(latents.split(7))))
    assert [len(chunk) for chunk, _ in kept] == [16, 4]
    assert sum(bits for _, bits in kept) == 8 * latents.numel() + 2 * 4 * 32
    assert (torch.cat([chunk for chunk, _ in kept]).float() - latents).abs().max() < 0.03


def test_packed_is_known_by_the_drop_that_it_may_cost():
    check_name("packed:0.1dB")
    assert (find_drop("packed:0.25db"), find_drop("int8")) == (0.25, None)
    with pytest.raises(UsageError, match="packed:cheap: unknown"):
        check_name("packed:cheap")
