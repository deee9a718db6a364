"""A class of diffusers as a network of ours; diffusers is imported when one is built, and not before."""

import inspect
from collections.abc import Iterator
from functools import partial
from types import ModuleType

from torch import Tensor, nn

from vidlatent.errors import BadWeights, UsageError
from vidlatent.models.base import ModelSpec
from vidlatent.models.causal import TimeState
from vidlatent.models.diffusers.row import Config, Row
from vidlatent.models.diffusers.table import row_of
from vidlatent.windows import even_tiles

INSTALL = "pip install 'vidlatent[diffusers]'"


def spec_of(config: Config) -> ModelSpec:
    """Spec of a model of one of the classes, with this config.json."""
    row = row_of(config)
    said = row.check(config)
    try:
        grid, plan, channels = row.grid(said), row.plan(said), int(said[row.channels])
        scale, shift = scale_and_shift(said, channels)
        horizon = row.horizon(said)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
        raise BadWeights(
            f"config of {config['_class_name']} is broken ({e})",
            "use the config.json that came with the weights",
        ) from e
    return ModelSpec(
        name=str(config["_class_name"]),
        family="diffusers_vae",
        grid=grid,
        channels=channels,
        plan=plan,
        scale=scale,
        shift=shift,
        tiles=partial(even_tiles, space=grid.space),
        windows=row.windows,
        horizon=horizon,
        options=row.options,
        summary="runs through diffusers",
        config=dict(config),
    )


def scale_and_shift(said: Config, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What makes a diffusion model's latents of these: a factor, or the statistics of each channel.

    Cosmos has others for each frame of a clip: they stay in the config.
    """
    factor, spread = float(said.get("scaling_factor", 1.0)), said.get("latents_std") or ()
    if len(spread) != channels:
        return (factor,), (0.0,)
    return tuple(factor / std for std in spread), tuple(said["latents_mean"])


class AdaptedVae(nn.Module):
    """An instance of a class of diffusers, driven as its row says."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.vae = build_class(spec.config)

    @property
    def row(self) -> Row:
        """What is known of the class."""
        return row_of(self.spec.config)

    def encode(self, video: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Pixels [B, 3, T, H, W] in [-1, 1] → moments [B, 2C, t, h, w], mean then raw logvar."""
        yield from self.row.encode(self, video, state)

    def decode(self, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Latents [B, C, t, h, w] in raw posterior units → pixels [B, 3, T, H, W], not clamped."""
        yield from self.row.decode(self, latents, state)


def import_diffusers() -> ModuleType:
    """The package; raises UsageError, with what installs it, where it is missing."""
    try:
        import diffusers
    except ImportError as e:
        raise UsageError("this model runs through diffusers, which is not installed", INSTALL) from e
    return diffusers


def build_class(config: Config, prepared: bool = True) -> nn.Module:
    """An instance of the class that `config` names, prepared to be driven or as it comes."""
    name = str(config["_class_name"])
    try:
        kind = getattr(import_diffusers(), name)
        known = inspect.signature(kind.__init__).parameters
        vae = kind(**{key: value for key, value in config.items() if key in known})
    except (AttributeError, TypeError, ValueError) as e:
        raise BadWeights(f"config of {name}: diffusers cannot build it ({e})", INSTALL) from e
    if prepared:
        row_of(config).prepare(vae)
    return vae.eval().requires_grad_(False)
