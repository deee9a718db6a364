"""Toy: no network at all. Pixels are folded into channels, so what comes back is what went in.

It has the grid and the streaming of a real model and no weights; tests use it wherever a network
would only be slow, and it shows what the rest of the pipeline alone does to a clip.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidlatent.grid import Grid
from vidlatent.models.base import Family, ModelSpec
from vidlatent.models.causal import TimeState
from vidlatent.models.horizon import Horizon, narrowed, widened
from vidlatent.windows import Plan, TimeRule, even_tiles

GRID = Grid(time=4, space=8)
CHANNELS = 3 * GRID.time * GRID.space**2
LOGVAR = -30.0  # nothing is uncertain


class ToyVAE(nn.Module):
    """The identity, in the shape of a video VAE."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec

    def encode(self, video: Tensor, state: TimeState) -> Iterator[Tensor]:
        """[B, 3, T, H, W] → [B, 2·768, t, H/8, W/8]; three copies of the first frame stand in front."""
        x = state.extend(self, video, kernel=GRID.time, stride=GRID.time)
        t = x.shape[2] // GRID.time
        x = x[:, :, : t * GRID.time].unflatten(2, (t, GRID.time)).transpose(2, 3).flatten(1, 2)
        mean = F.pixel_unshuffle(x.transpose(1, 2), GRID.space).transpose(1, 2)
        yield torch.cat([mean, torch.full_like(mean, LOGVAR)], dim=1)

    def decode(self, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
        """[B, 768, t, h, w] → [B, 3, T, 8h, 8w]."""
        x = F.pixel_shuffle(latents.transpose(1, 2), GRID.space).transpose(1, 2)  # B 12 t H W
        x = x.unflatten(1, (3, GRID.time)).transpose(2, 3).flatten(2, 3)
        yield x[:, :, GRID.time - 1 :] if state.begins(self) else x


def spec_of(_: object) -> ModelSpec:
    """There is one toy."""
    return ModelSpec(
        name="toy",
        family="toy",
        grid=GRID,
        channels=CHANNELS,
        plan=Plan(encode_time=TimeRule(16), decode_time=TimeRule(4)),
        licence="Apache-2.0",
        summary="folds pixels and loses nothing: for tests",
        config={"_class_name": "ToyVAE"},
        horizon=Horizon.count(GRID, [narrowed(GRID.time, GRID.time)], [widened(GRID.time)]),
        weightless=True,
        tiles=lambda tile, overlap: even_tiles(tile, overlap, GRID.space),
    )


FAMILY = Family(
    name="toy",
    class_names=("ToyVAE",),
    specs=(spec_of({}),),
    spec_of=spec_of,
    build=ToyVAE,
    rename=lambda key: key,
)
