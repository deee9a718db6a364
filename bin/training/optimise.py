"""Muon: steepest descent for matrices (Jordan et al. 2024), for the kernels of residual branches."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # the authors' coefficients: five turns bring values near 1
TURNS = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix is made orthogonal before it is taken as a step.

    A kernel [out, in, ...] is the matrix [out, in · ...]; those of one shape are treated together. Steps are
    scaled to the size that Adam's have at the same learning rate (0.2 rms, Liu et al. 2025).
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": 0.1})

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter against its gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = {}
            for p in group["params"]:
                alike.setdefault(p.shape, []).append(p)
            for kernels in alike.values():
                self._move(kernels, group)

    def _move(self, kernels: list[nn.Parameter], group: dict) -> None:
        """Move kernels of one shape."""
        momenta = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in kernels]
        torch._foreach_lerp_(momenta, [p.grad for p in kernels], 1 - group["momentum"])
        ahead = torch.stack(torch._foreach_lerp([p.grad for p in kernels], momenta, group["momentum"]))
        matrices = orthogonal(ahead.flatten(2))
        size = 0.2 * max(matrices.shape[1:]) ** 0.5
        torch._foreach_mul_(kernels, 1 - group["lr"] * group["decay"])
        torch._foreach_sub_(kernels, matrices.view_as(ahead).unbind(), alpha=group["lr"] * size)


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices [n, rows, columns] with their singular values near 1, by Newton-Schulz iteration."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(TURNS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x
