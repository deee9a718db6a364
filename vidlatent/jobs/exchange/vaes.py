"""Whether latents are those of the VAE that a trainer's model was trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from vidlatent.errors import UsageError, parameter
from vidlatent.grid import Grid
from vidlatent.io.latent.header import LatentHeader
from vidlatent.jobs.exchange.needs import Needs
from vidlatent.models import registry
from vidlatent.models.base import ModelSpec


class _Described(Protocol):
    grid: Grid
    config: Mapping[str, object]
    scale: tuple[float, ...]
    shift: tuple[float, ...]


@dataclass(frozen=True)
class Vae:
    """A VAE as its latents show it, by whatever name it was loaded."""

    name: str
    kind: object  # `_class_name` of its config
    channels: int
    grid: Grid
    scale: tuple[float, ...]
    shift: tuple[float, ...]

    @classmethod
    def of_spec(cls, spec: ModelSpec) -> Self:
        """That of a model."""
        return cls._of(spec.name, spec.channels, spec)

    @classmethod
    def of_header(cls, header: LatentHeader, channels: int) -> Self:
        """The one that made the latents of a file."""
        return cls._of(header.model, channels, header)

    @classmethod
    def _of(cls, name: str, channels: int, said: _Described) -> Self:
        kind = said.config.get("_class_name")
        return cls(name, kind, channels, said.grid, tuple(said.scale), tuple(said.shift))

    @property
    def still(self) -> bool:
        """Whether it is an image VAE: each frame has a latent of its own."""
        return self.grid.time == 1

    @property
    def is_ltx(self) -> bool:
        """Whether it is one of LTX-Video or LTX-2."""
        return self.grid.space == 32 and self.channels == 128

    def words(self) -> str:
        """Its name and shape, for people."""
        grid = self.grid
        return f"{self.name} ({grid.time}x{grid.space}x{grid.space}, {self.channels} channels)"

    def is_one_of(self, models: tuple[str, ...]) -> bool:
        """Whether it is among these models: by name, or by all that is known of its latents."""
        return not models or self.name in models or any(self._is_like(registry.find(m)) for m in models)

    def _is_like(self, spec: ModelSpec) -> bool:
        other = Vae.of_spec(spec)
        same = (self.kind, self.channels, self.grid) == (other.kind, other.channels, other.grid)
        told = other.scale != (1.0,)  # of some it is known only once their weights are read
        return same and (not told or (self.scale, self.shift) == (other.scale, other.shift))


def refuse_other_vae(vae: Vae, needs: Needs, word: str, where: str) -> None:
    """Raise UsageError where latents of `vae` are of no use to the trainer; `where` says whose they are."""
    if vae.is_one_of(needs.models):
        return
    wanted = Vae.of_spec(registry.find(needs.models[0]))
    names = " or ".join(needs.models)
    raise UsageError(
        f"{parameter('trainer')} {word}: trains on latents of {names} "
        f"({wanted.grid.time}x{wanted.grid.space}x{wanted.grid.space}, {wanted.channels} channels), "
        f"{where} {vae.words()}",
        f"cache with {parameter('model')} {needs.models[0]}; export without this check by --to {word}",
    )
