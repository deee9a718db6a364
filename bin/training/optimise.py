"""Muon: steepest descent for matrices (Jordan et al. 2024), for the kernels of residual branches."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # the authors' coefficients: five turns bring values near 1
TURNS = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix is made orthogonal before it is taken as a step.

    A kernel [out, in, ...] is the matrix [out, in · ...]. Steps are scaled to the size that Adam's have at
    the same learning rate (0.2 rms, Liu et al. 2025).
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": 0.01})

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter against its gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - group["momentum"])
                ahead = p.grad.lerp(momentum, group["momentum"])
                matrix = orthogonal(ahead.flatten(1))
                size = 0.2 * max(matrix.shape) ** 0.5
                p.mul_(1 - group["lr"] * group["decay"]).sub_(matrix.view(p.shape), alpha=group["lr"] * size)


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix with its singular values near 1, by Newton-Schulz iteration."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(TURNS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x
