"""Which dtype a processor multiplies soonest."""

from functools import cache

import torch


def is_cpu(device: torch.device) -> bool:
    """Whether `device` is a CPU; "meta" stands for one, where a network is measured and nothing computed."""
    return device.type in ("cpu", "meta")


def quickest(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype in which `device` convolves numbers of `dtype` soonest: their own, or float32.

    A product of two bf16 or fp16 numbers is exact in float32, and sums are float32 either way, so what is
    rounded to `dtype` in the end comes of the same arithmetic.
    """
    if not is_cpu(device) or dtype not in (torch.bfloat16, torch.float16):
        return dtype
    return dtype if has_unit_for(dtype) else torch.float32


@cache
def has_unit_for(dtype: torch.dtype) -> bool:
    """Whether this CPU multiplies bf16 or fp16 faster than float32, as far as torch can tell.

    x86 has matrix units for them (AMX), and AMD's processors with AVX512-BF16 two products for one; Intel's
    without AMX have half as many in bf16 as in float32, and others emulate. Elsewhere torch knows better.
    """
    known = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch that will do
    if known and known["architecture"] != "x86_64":
        return True
    if dtype == torch.float16:
        return known.get("amx_fp16", False)
    paired = known.get("avx512_bf16", False) and "AMD" in known["cpu_name"]
    return known.get("amx_bf16", False) or paired
