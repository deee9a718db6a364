"""Keeps float32 arithmetic in float32 on GPUs, which otherwise use less precise formats."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_inside: list[object] = []  # one item for each `with` that is open, in any thread
_before: list[object] = []  # the settings that the first of them found


@contextmanager
def true_float32() -> Iterator[None]:
    """Compute convolutions and products of float32 in float32 on CUDA, not in TF32, inside this `with`.

    TF32 keeps 10 bits of the mantissa; torch uses it for convolutions by default. Its error is 1e-3, while
    the authors' numbers must be met within 1e-5. The setting is the process's, so the last `with` to end
    restores what the first one found. Other dtypes and devices are not affected.
    """
    with _lock:
        if not _inside:
            _before[:] = [getattr(owner, name) for owner, name, _ in _knobs()]
            _set([exact for _, _, exact in _knobs()])
        _inside.append(None)
    try:
        yield
    finally:
        with _lock:
            _inside.pop()
            if not _inside:
                _set(_before)


def _set(values: list[object]) -> None:
    for (owner, name, _), value in zip(_knobs(), values, strict=True):
        setattr(owner, name, value)


def _knobs() -> list[tuple[object, str, object]]:
    """Owner and name of torch's settings, and the value that means float32."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    if hasattr(getattr(cudnn, "conv", None), "fp32_precision"):  # torch 2.9 on
        return [(cudnn.conv, "fp32_precision", "ieee"), (matmul, "fp32_precision", "ieee")]
    return [(cudnn, "allow_tf32", False), (matmul, "allow_tf32", False)]
