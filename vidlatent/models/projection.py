"""Latents as pictures without a network: of every position the colour that its channels add up to."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from vidlatent.grid import Grid
from vidlatent.models.base import ModelSpec
from vidlatent.models.causal import TimeState
from vidlatent.windows import Plan, TimeRule

STEP = 16  # latents at once, which only matters to memory


class Projection(nn.Module):
    """A VideoVAE that only decodes: one picture per latent, of one pixel per position.

    It is the last of the frames that the latent stands for, as the fit of the spec's colours has it.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = replace(spec, grid=Grid(1, 1), plan=Plan(TimeRule(STEP), TimeRule(STEP)))
        self.register_buffer("weights", torch.tensor(spec.colours.weights))
        self.register_buffer("bias", torch.tensor(spec.colours.bias))

    def decode(self, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
        """[B, C, t, h, w] → [B, 3, t, h, w], about -1 to 1; nothing is remembered."""
        pixels = latents.movedim(1, -1) @ self.weights.to(latents) + self.bias.to(latents)
        yield pixels.movedim(-1, 1)
