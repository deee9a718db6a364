"""What every video VAE says about itself, and the two verbs it must have."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vidlatent.grid import Grid
from vidlatent.models.causal import TimeState
from vidlatent.models.horizon import Horizon
from vidlatent.models.options import Option, Setting, checked
from vidlatent.windows import Plan, Tiling, TimeRule

LOGVAR_RANGE = (-30.0, 20.0)  # clamp of the reference implementations

Verb = Literal["encode", "decode"]
# The modules of a network that one verb alone uses: whoever wants that verb only can do without the others.
MODULES_OF: Mapping[Verb, tuple[str, ...]] = {
    "encode": ("encoder", "quant_conv"),
    "decode": ("decoder", "post_quant_conv"),
}


@dataclass(frozen=True)
class Hub:
    """Where published weights live on the model hub, and what is known of them; see `published.py`."""

    repo: str
    file: str
    config: str | None = None  # None: the config is known here
    revision: str = "main"
    sha256: str | None = None
    bytes: int | None = None
    config_sha256: str | None = None


# A tile's side in pixels and the fraction that neighbours share → its tilings of pixels and of latents.
TileRule = Callable[[int, float], tuple[Tiling, Tiling]]
# The frames of a window → how to cut frames, and latents, in windows of so many.
WindowRule = Callable[[int], tuple[TimeRule, TimeRule]]


# A model, a frame of latents [B, C, h, w], and its index in the clip → what is decoded in its place.
Prepare = Callable[["ModelSpec", Tensor, int], Tensor]


@dataclass(frozen=True)
class TileColumns:
    """How tiles reach across where they are not square: `width` times their height.

    Each shares the fraction `overlap` of its width with the one beside it, unless told otherwise.
    """

    width: float
    overlap: float


@dataclass(frozen=True)
class StandIn:
    """Whose latents a tiny model reads and writes: it stands in for these models where a preview is enough.

    It takes latents as a diffusion model is fed them, (z - shift) · scale, or `raw`: as they are stored.
    """

    models: tuple[str, ...]
    raw: bool = False


@dataclass(frozen=True)
class Colours:
    """The colour of a latent position, as a sum over its channels: a picture of latents without a network.

    `weights` holds red, green and blue for each channel of raw latents, -1 to 1 as pixels are.
    """

    weights: tuple[tuple[float, float, float], ...]
    bias: tuple[float, float, float]

    @classmethod
    def of(cls, config: Mapping[str, list]) -> "Colours":
        """From the member `colours` of a config.json."""
        return cls(tuple(map(tuple, config["weights"])), tuple(config["bias"]))


@dataclass(frozen=True)
class ModelSpec:
    """The facts of one model: what the engine, the container and a diffusion model must know.

    A diffusion model is fed (z - shift) · scale, one value per channel or one for all.
    """

    name: str
    family: str  # which file of models/ builds it
    grid: Grid
    channels: int
    plan: Plan
    plans: Mapping[str, Plan] = field(default_factory=dict)  # others that have a name
    scale: tuple[float, ...] = (1.0,)
    shift: tuple[float, ...] = (0.0,)
    licence: str = "unknown"
    summary: str = ""
    config: Mapping[str, object] = field(default_factory=dict)
    hub: Hub | None = None
    tiles: TileRule | None = None  # None: frames go through whole
    tile_overlap: float = 0.125  # fraction of a tile, unless told otherwise
    tile_columns: TileColumns | None = None  # None: as rows
    windows: WindowRule | None = None  # None: windows of any length share what those of `plan` do
    grows: int = 0  # values that state adds per position and frame of latents, as far as `past` allows
    latency: int = 1  # latents that go in before decoding gives a frame
    horizon: Horizon | None = None  # how far back it sees where state is carried; None: nobody knows an end
    longer_on_gpu: int = 1  # by what factor the chunks of an exact model are longer there than its plan's
    weightless: bool = False  # nothing to load
    stands_in: StandIn | None = None  # None: its latents are its own
    colours: Colours | None = None  # None: nobody fitted them
    options: tuple[Option, ...] = ()  # what may be chosen beside how a clip is cut
    settings: Mapping[str, Setting] = field(default_factory=dict)  # what was, by the names of options
    prepare: Prepare | None = None  # what is done to latents before they are decoded; None: nothing

    def setting(self, name: str) -> Setting:
        """What was chosen for the option of that name, or its default."""
        defaults = {option.name: option.default for option in self.options}
        return self.settings.get(name, defaults[name])

    def chosen(self, settings: Mapping[str, object]) -> "ModelSpec":
        """The spec with these settings, checked, beside its own."""
        return replace(self, settings={**self.settings, **checked(self.options, settings, self.name)})

    def changed(self, latents: bool = False) -> dict[str, Setting]:
        """The settings that are not at their defaults; only those that change `latents`, if so asked."""
        return {
            option.name: self.setting(option.name)
            for option in self.options
            if self.setting(option.name) != option.default and (option.latents or not latents)
        }

    @property
    def label(self) -> dict[str, object]:
        """What is said of the model beside what its config says."""
        return {"name": self.name, "licence": self.licence, "summary": self.summary, "hub": self.hub}

    @property
    def exact(self) -> bool:
        """Whether streaming equals the whole clip, whatever the chunks."""
        return self.plan.encode_time.exact and self.plan.decode_time.exact


@dataclass(frozen=True)
class Posterior:
    """Diagonal Gaussian over latents: `mean` and raw (unclamped) `logvar`, both [B, C, t, h, w].

    `size` is that of the clip they were made of, (T, H, W), where it is known.
    """

    mean: Tensor
    logvar: Tensor
    size: tuple[int, int, int] | None = None

    @classmethod
    def of(cls, moments: Tensor) -> "Posterior":
        """From moments [B, 2C, t, h, w]: mean, then logvar, along channels."""
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean, logvar)

    def mode(self) -> Tensor:
        """The most likely latents [B, C, t, h, w]: the mean."""
        return self.mean

    def sample(self, seed: int = 0, start: int = 0) -> Tensor:
        """Latents [B, C, t, h, w] drawn from the posterior: mean + exp(logvar/2)·noise.

        The noise of a latent frame depends on `seed` and on its absolute index (`start` is the
        index of the first one here) alone, so no window size can change it.
        """
        std = torch.exp(self.logvar.clamp(*LOGVAR_RANGE) / 2)
        shape = self.mean[:, :, 0].shape
        frames = [torch.from_numpy(frame_noise(seed, start + t, shape)) for t in range(self.mean.shape[2])]
        noise = torch.stack(frames, dim=2).to(self.mean)
        return self.mean + std * noise


Shapes = Mapping[str, tuple[int, ...]]  # the keys of a checkpoint and the shapes of their tensors
Rename = Callable[[str], str | None]  # a key of a checkpoint → ours; None = known and dropped


@dataclass(frozen=True)
class Layout:
    """One way in which files name the weights of a family, and how to tell it from the others."""

    name: str  # whose it is: "authors", "diffusers"
    marks: tuple[str, ...]  # keys that every file of this layout has, and that together no other one has
    rename: Rename | None  # a key of the file → ours; None where that depends on the other keys: see below
    config: Callable[
        [Shapes], Mapping[str, object]
    ]  # what the keys and shapes say of the network, as a config
    rename_among: Callable[[Iterable[str]], Rename] | None = None  # `rename` for files with these keys

    def renamer(self, keys: Iterable[str]) -> Rename:
        """What turns a key of a file that has these `keys` into ours."""
        return self.rename_among(keys) if self.rename_among else self.rename


@dataclass(frozen=True)
class Family:
    """One architecture: the single thing a file of models/ offers to the registry (as FAMILY)."""

    name: str
    class_names: tuple[str, ...]  # values of `_class_name` in a config.json that it answers to
    specs: tuple[ModelSpec, ...]  # the models of this architecture that have a name
    spec_of: Callable[[Mapping[str, object]], ModelSpec]  # any config of the architecture → its spec
    build: Callable[[ModelSpec], nn.Module]  # a VideoVAE, its weights on the current default device
    rename: Rename
    layouts: tuple[Layout, ...] = ()  # for families whose files come in several; `rename` is the last resort
    # The config that keys and shapes imply, and the metadata of the file → the config, the latter heard.
    correct: Callable[[Mapping[str, object], Mapping[str, str]], Mapping[str, object]] | None = None
    # A loaded network, whose buffers hold facts of its model, and its file → the spec with these facts.
    learn: Callable[[nn.Module, Path], ModelSpec] | None = None
    extra: str | None = None  # the package besides ours that has the network, and the extra that installs it


def frame_noise(seed: int, index: int, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal float32 noise of latent frame `index`, the same on every platform and device."""
    return np.random.Generator(np.random.PCG64([seed, index])).standard_normal(shape, dtype=np.float32)


class VideoVAE(Protocol):
    """The seam between networks and the engine. Weights live in the module, the clip in `state`.

    What one verb alone uses has a name of `MODULES_OF`; anything else is there for both.

    Both verbs give their result in pieces, in order: none, one or several. A network that looks ahead gives
    what is known by then; once `state.more` is False the last pieces empty it.
    """

    spec: ModelSpec

    def encode(self, video: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Pixels [B, 3, T, H, W] in [-1, 1] → moments [B, 2C, t, h, w], mean then raw logvar."""
        ...

    def decode(self, latents: Tensor, state: TimeState) -> Iterator[Tensor]:
        """Latents [B, C, t, h, w] in raw posterior units → pixels [B, 3, T, H, W], not clamped."""
        ...
