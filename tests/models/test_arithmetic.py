"""Half precision multiplied in whatever is quickest: the same numbers, rounded at the same places."""

import numpy as np
import pytest
import torch

import vidlatent
from vidlatent.models import arithmetic, pocket_vae
from vidlatent.models.arithmetic import has_unit_for, quickest

CPU = torch.device("cpu")
HALVES = (torch.bfloat16, torch.float16)


def known(monkeypatch, **facts: object) -> None:
    """Let the processor be one with these facts for the rest of the test."""
    has_unit_for.cache_clear()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: facts, raising=False)


@pytest.fixture(autouse=True)
def _forget():
    yield
    has_unit_for.cache_clear()


INTEL = {"architecture": "x86_64", "cpu_name": "Intel Xeon", "avx512_bf16": True}


@pytest.mark.parametrize(
    ("facts", "bf16", "fp16"),
    [
        ({}, False, False),  # a torch that cannot tell
        (INTEL, False, False),
        (INTEL | {"amx_bf16": True}, True, False),
        (INTEL | {"amx_bf16": True, "amx_fp16": True}, True, True),
        (INTEL | {"cpu_name": "AMD EPYC 9654"}, True, False),
        ({"architecture": "aarch64"}, True, True),
    ],
)
def test_float32_where_halves_have_no_unit(monkeypatch, facts, bf16, fp16):
    known(monkeypatch, **facts)
    own = {torch.bfloat16: bf16, torch.float16: fp16}
    assert {dtype: quickest(dtype, CPU) == dtype for dtype in HALVES} == own


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_dtypes_and_devices_are_left_alone(monkeypatch, dtype):
    known(monkeypatch)
    assert quickest(dtype, CPU) == dtype
    assert quickest(torch.bfloat16, torch.device("cuda")) == torch.bfloat16


@pytest.mark.parametrize("dtype", HALVES)
def test_pocket_is_no_further_from_float32_than_in_the_half_itself(monkeypatch, moving_clip, dtype):
    frames = moving_clip(9, 64, 96)

    def decoded(kind: torch.dtype) -> np.ndarray:
        model = vidlatent.load_model(device="cpu", dtype=kind)
        latents = [z for w in model.encode_stream(frames) for z in w.chunk(2, dim=1)[0].unbind(2)]
        return torch.cat(list(model.decode_stream(latents)), dim=2).double().numpy()

    def error(found: np.ndarray) -> float:
        return float(np.sqrt(np.mean((found - wanted) ** 2)))

    wanted = decoded(torch.float32)
    errors = {}
    for unit in (True, False):
        monkeypatch.setattr(arithmetic, "has_unit_for", lambda _, unit=unit: unit)
        assert (pocket_vae.quickest(dtype, CPU) == dtype) is unit
        errors[unit] = error(decoded(dtype))
    assert 0 < errors[False] < 1.05 * errors[True]
