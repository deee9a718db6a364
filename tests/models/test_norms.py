"""Norms as a GPU takes them, all at once, against what a CPU makes of them block by block."""

import pytest
import torch

from vidlatent.models import norms
from vidlatent.models.norms import GroupNorm

ROUNDING = {"rtol": 1e-5, "atol": 1e-5}  # of float32, summed in another order


@pytest.mark.parametrize("part_bytes", [1 << 26, 1])
@pytest.mark.parametrize("per_frame", [True, False])
def test_a_norm_of_all_samples_at_once_is_that_of_each(monkeypatch, per_frame, part_bytes):
    torch.manual_seed(0)
    norm = GroupNorm(8, groups=4, per_frame=per_frame)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = 3 + torch.randn(2, 8, 3, 6, 5).contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        wanted = norm.silu(x)
        monkeypatch.setattr(norms, "_is_whole", lambda sample: True)
        monkeypatch.setattr(norms, "_PART_BYTES", part_bytes)
        torch.testing.assert_close(norm.silu(x), wanted, **ROUNDING)
        torch.testing.assert_close(norm.silu_into(x, x), wanted, **ROUNDING)
