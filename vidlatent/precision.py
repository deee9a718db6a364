"""What "float32" means on a GPU: float32."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_inside: list[object] = []  # one for each `with` that is open, in any thread
_before: list[object] = []  # the settings that the first of them found


@contextmanager
def true_float32() -> Iterator[None]:
    """Convolutions and products of float32 in float32 on CUDA, not in TF32.

    TF32 keeps 10 bits of the mantissa, and is what torch takes for convolutions unless told otherwise: off
    by 1e-3 where the authors' numbers are to be met within 1e-5. The setting is the process's, so the last
    `with` to end puts back what the first one found. Nothing changes for other dtypes and devices.
    """
    with _lock:
        if not _inside:
            _before[:] = [getattr(owner, name) for owner, name, _ in _knobs()]
            _turn([exact for _, _, exact in _knobs()])
        _inside.append(None)
    try:
        yield
    finally:
        with _lock:
            _inside.pop()
            if not _inside:
                _turn(_before)


def _turn(values: list[object]) -> None:
    for (owner, name, _), value in zip(_knobs(), values, strict=True):
        setattr(owner, name, value)


def _knobs() -> list[tuple[object, str, object]]:
    """Owner and name of torch's settings, and the value that means float32."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    if hasattr(getattr(cudnn, "conv", None), "fp32_precision"):  # torch 2.9 on
        return [(cudnn.conv, "fp32_precision", "ieee"), (matmul, "fp32_precision", "ieee")]
    return [(cudnn, "allow_tf32", False), (matmul, "allow_tf32", False)]
