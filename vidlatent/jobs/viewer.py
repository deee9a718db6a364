"""What shows the latents of a file quickly: a tiny model that stands in for theirs, or colours alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vidlatent.engine.model import Model
from vidlatent.engine.runtime import Runtime
from vidlatent.errors import UsageError, parameter
from vidlatent.files import sha256_file
from vidlatent.io.latent.reader import LatentReader
from vidlatent.jobs.models import ModelChoice
from vidlatent.models import registry
from vidlatent.models.base import ModelSpec
from vidlatent.models.projection import Projection
from vidlatent.models.registry import Resolved
from vidlatent.models.tae_vae import Glimpse, Growth
from vidlatent.normalising import normalise


@dataclass(frozen=True)
class Viewer:
    """A quick decoder for the latents of one file.

    `tiny` is the tiny model, or None where colours are all there is. `fed` is scale and shift, of each
    channel or of all, by which latents become what a diffusion model is fed; None where raw ones are wanted.
    """

    spec: ModelSpec
    runtime: Runtime
    tiny: Model | None = None
    fed: tuple[Sequence[float], Sequence[float]] | None = None

    @property
    def name(self) -> str:
        """What shows the latents, in a few words."""
        return self.spec.name if self.tiny else f"the colours of {self.spec.name}"

    def show_frames(self) -> Model:
        """Give the model that decodes every frame, at full size."""
        return self._glimpse(Growth())

    def show_latents(self, full_size: bool) -> Model:
        """Give the model that makes one picture of each latent: as large as the clip, or as the latents."""
        if self.tiny is None:
            return Model(Projection(self.spec), self.runtime)
        always = self.tiny.network.decoder.large  # whose weights make no picture of the latents' size
        return self._glimpse(Growth(all_frames=False, full_size=full_size or always))

    def make_ready(self, latents: Tensor) -> Tensor:
        """Latents [n, C, h, w] of the file → as the decoder wants them."""
        if self.fed is None:
            return latents
        return normalise(latents, *self.fed, axis=-3)

    def _glimpse(self, growth: Growth) -> Model:
        return Model(Glimpse(self.tiny.network, growth), self.runtime, self.tiny.weights_sha256)


def viewer_for(source: LatentReader, choice: ModelChoice) -> Viewer:
    """Find what can show these latents, or take what was chosen; raises UsageError where they do not fit."""
    found = resolve(source, choice)
    spec, header = found.spec, source.header
    if spec.stands_in is None:
        demand_colours(source, found)
        return Viewer(spec, Runtime.choose(choice.device or "cpu", "fp32"))
    demand_pair(source, spec)
    tiny = choice.load(spec.name, only="decode")
    if spec.stands_in.raw or header.model == spec.name:
        return Viewer(spec, tiny.runtime, tiny)
    return Viewer(spec, tiny.runtime, tiny, (header.scale, header.shift))


def find_stand_ins(model: str) -> list[str]:
    """List the tiny models that read the latents of `model`; one reads its own."""
    return [
        spec.name
        for spec in registry.specs()
        if spec.stands_in and (model in spec.stands_in.models or model == spec.name)
    ]


def resolve(source: LatentReader, choice: ModelChoice) -> Resolved:
    """Find the quick decoder: the one chosen, else a tiny model that is here, else the colours."""
    made_by = source.header.model
    names = find_stand_ins(made_by)
    if choice.model or (choice.weights and not is_collection(choice.weights)):
        return registry.resolve_weights(choice.model, choice.weights, choice.config)
    if choice.weights:
        name = next((name for name in names if registry.file_named(name, choice.weights)), None)
        if name is None:
            raise UsageError(
                f"{choice.weights}: holds nothing that shows {made_by}'s latents", advise(made_by)
            )
        return registry.resolve_weights(name, choice.weights)
    name = next((name for name in names if registry.local_file(name)), None)
    if name is None and made_by not in registry.BUNDLED:
        raise UsageError(f"{source.path}: nothing is here that shows {made_by}'s latents", advise(made_by))
    return registry.resolve(name or made_by)


def is_collection(weights: Path) -> bool:
    """Whether this is a folder of many models' weights, each under its model's name."""
    return weights.is_dir() and registry.config_beside(weights) is None


def advise(model: str) -> str:
    """Say what to do where nothing shows the latents of `model`."""
    names = find_stand_ins(model)
    if not names:
        return "no quick decoder is known for them: vidlatent decode shows them"
    return (
        f"give {names[0]}.safetensors or {names[0]}.pth (https://github.com/madebyollin/taehv) "
        f"or a folder that holds it by {parameter('weights')}"
    )


def demand_pair(source: LatentReader, spec: ModelSpec) -> None:
    """Raise UsageError where a tiny model is none for these latents."""
    header = source.header
    if header.model not in (*spec.stands_in.models, spec.name):
        others = " or ".join(spec.stands_in.models)
        raise UsageError(
            f"{source.path}: made by {header.model}, but {spec.name} shows latents of {others}",
            advise(header.model),
        )
    made = (source.shape[1], header.grid.time, header.grid.space)
    reads = (spec.channels, spec.grid.time, spec.grid.space)
    if made != reads:
        raise UsageError(
            f"{source.path}: {made[0]} channels for {made[1]} frames and {made[2]} pixels, "
            f"but {spec.name} reads {reads[0]} for {reads[1]} and {reads[2]}",
            "decode it with the weights that it was made with",
        )


def demand_colours(source: LatentReader, found: Resolved) -> None:
    """Raise UsageError where a model has no colours, or they are not those of these latents."""
    spec, header = found.spec, source.header
    if spec.colours is None:
        raise UsageError(
            f"{spec.name}: is no quick decoder, and no colours were fitted to its latents",
            advise(header.model),
        )
    sha256 = sha256_file(found.weights)
    if header.weights_sha256 not in ("", sha256) or len(spec.colours.weights) != source.shape[1]:
        raise UsageError(
            f"{source.path}: made by {header.model} with other weights ({header.weights_sha256[:12]}…) "
            f"than the colours of {spec.name} are for ({sha256[:12]}…)",
            f"name the folder of that model by {parameter('weights')}, or decode",
        )
