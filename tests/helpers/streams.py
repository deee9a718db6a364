"""What tests of streaming-exact networks share: a clip in chunks must give what the whole clip gives."""

from collections.abc import Callable
from itertools import pairwise

import torch

from vidlatent.models.causal import TimeState

# Convolutions choose their kernel by the length of what they get, and kernels add in different
# order. Measured: 3e-6 on pixels of about ±3, from 120 lengths in random chunks.
MAX_ABS = 2e-5


def chunked(total: int, first: int, then: Callable[[], int]) -> list[tuple[int, int]]:
    """[start, stop) of the chunks of a clip of `total` frames: `first` frames, then `then()` at a time."""
    cuts = [0, min(first, total)]
    while cuts[-1] < total:
        cuts.append(min(cuts[-1] + then(), total))
    return list(pairwise(cuts))


def streamed(apply, x: torch.Tensor, chunks: list[tuple[int, int]], past: int = 0) -> torch.Tensor:
    """What `apply`, an encode or decode, gives of `x` in these chunks, looking so far into the past."""
    state, parts = TimeState(more=True, past=past), []
    for i, (start, stop) in enumerate(chunks):
        state.more = i + 1 < len(chunks)
        parts += apply(x[:, :, start:stop], state)
    return torch.cat(parts, dim=2)


def assert_same(got: torch.Tensor, wanted: torch.Tensor) -> None:
    """Equal but for the order in which convolutions add."""
    assert got.shape == wanted.shape
    assert wanted.numel() == 0 or (got - wanted).abs().max() <= MAX_ABS
