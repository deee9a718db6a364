"""What is known of a class of diffusers: the facts of a row, which its own file fills in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vidlatent.errors import BadWeights, UsageError
from vidlatent.grid import Grid
from vidlatent.models.base import WindowRule
from vidlatent.models.diffusers.clip import Drive
from vidlatent.models.horizon import Horizon
from vidlatent.models.options import Option
from vidlatent.windows import Plan, TimeRule

Config = Mapping[str, object]
Whole = Callable[[nn.Module, Tensor], Tensor]


def leave_as_it_is(vae: nn.Module) -> None:
    """Nothing needs to be done to the class."""


def encode_whole(vae: nn.Module, video: Tensor) -> Tensor:
    """The class's own call: a clip of a legal length → its latents."""
    return vae.encode(video).latent_dist.mode()


def decode_whole(vae: nn.Module, latents: Tensor) -> Tensor:
    """The class's own call: all latents of a clip → its pixels."""
    return vae.decode(latents).sample


def own_cuts(frames: int) -> tuple[TimeRule, TimeRule]:
    """Refuse windows that a user asks for: the class is cut as its authors cut it."""
    raise UsageError("this model is cut in time as its authors cut it", "leave it out")


@dataclass(frozen=True)
class Row:
    """What is known of a class: facts that follow from its config, and what drives it.

    `defaults` are those of the class, as far as facts follow from them. `narrow` makes a small network of a
    config, and `encode_whole` and `decode_whole` are the class's own calls, all for the test at load.
    """

    grid: Callable[[Config], Grid]
    plan: Callable[[Config], Plan]
    encode: Drive
    decode: Drive
    narrow: Callable[[Config], Config]
    defaults: Config = field(default_factory=dict)
    channels: str = "latent_channels"  # the config's name for them
    demands: Config = field(default_factory=dict)  # what a config must say, if it says anything
    prepare: Callable[[nn.Module], None] = leave_as_it_is
    encode_whole: Whole = encode_whole
    decode_whole: Whole = decode_whole
    windows: WindowRule | None = None
    horizon: Callable[[Config], Horizon | None] = lambda said: None
    options: tuple[Option, ...] = ()
    side: int = 16  # of the pictures of the test at load
    half: bool = True  # whether it may run in half precision

    def check(self, config: Config) -> Config:
        """The config with the class's defaults; raises BadWeights where it is of another kind."""
        said = {**self.defaults, **config}
        for name, wanted in self.demands.items():
            if said.get(name, wanted) != wanted:
                raise BadWeights(
                    f"config of {config['_class_name']}: {name} = {said[name]!r} is not supported",
                    f"supported through diffusers: {name} = {wanted!r}",
                )
        return said


def narrow_tree(c: Config) -> Config:
    """Small widths for a tree of levels with group norms."""
    return {
        "block_out_channels": [8] * len(c["block_out_channels"]),
        "norm_num_groups": 4,
        "layers_per_block": 1,
    }


def made_here(make: Callable[[], nn.Module]) -> nn.Module:
    """What `make` makes, with real values: constants that no file holds."""
    with torch.device("cpu"):  # not on meta, as the network around it may be
        return make()
