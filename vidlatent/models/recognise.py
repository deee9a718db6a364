"""What a bare weight file is, told by the names and shapes of the tensors in it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vidlatent.errors import BadWeights, UsageError, parameter
from vidlatent.models.base import Family, Layout, ModelSpec, Rename, Shapes
from vidlatent.models.config_values import FAULTS, check_config
from vidlatent.models.tensor_file import metadata_in

# What stands before the names where a tool wrote the weights together with those of other networks.
PREFIXES = ("", "vae.", "model.", "first_stage_model.", "module.")


@dataclass(frozen=True)
class Recognised:
    """What a file holds: a family's weights in one of its layouts, and the models that they can be of.

    `specs` are the named models of that network, or where there is none the one that the shapes describe,
    which is `described`.
    """

    family: Family
    layout: Layout
    prefix: str
    specs: tuple[ModelSpec, ...]
    described: ModelSpec

    def one(self, path: Path) -> ModelSpec:
        """The model; raises UsageError where several differ in what their latents mean.

        Unless the name of the file tells, as for those tiny models that have nothing else to be told by.
        Where the weights themselves say what latents mean any will do, but which model it is remains unsaid.
        """
        told = [spec for spec in self.specs if spec.name in path.name]
        if len(told) == 1:
            return told[0]
        if self.family.learn and len(self.specs) > 1:
            return self.described
        meanings = {(spec.scale, spec.shift, spec.stands_in) for spec in self.specs}
        if len(meanings) > 1:
            names = " and ".join(spec.name for spec in self.specs)
            differ = "those of different models" if self.specs[0].stands_in else "scaled differently"
            raise UsageError(
                f"{path}: fits {names}, whose latents are {differ}",
                f"say which it is with {parameter('model')}, for instance {self.specs[0].name}",
            )
        return self.specs[0]


def recognise(families: Iterable[Family], shapes: Shapes, path: Path) -> Recognised | None:
    """What the tensors of these names and shapes are the weights of; None where no layout has such names."""
    found = [
        (family, layout, prefix)
        for family in families
        for layout in family.layouts
        for prefix in PREFIXES
        if all(prefix + mark in shapes for mark in layout.marks)
    ]
    if not found:
        return None
    family, layout, prefix = found[0]
    inside = {key.removeprefix(prefix): shape for key, shape in shapes.items() if key.startswith(prefix)}
    try:
        config = layout.config(inside)
        config = family.correct(config, metadata_in(path)) if family.correct else config
        check_config(config, path)
        described = family.spec_of(config)
    except FAULTS as e:
        raise BadWeights(
            f"{path}: has the names of {family.name} but not its shapes ({e})",
            f"give the config.json that came with these weights by {parameter('config')}",
        ) from e
    rename = layout.renamer(inside)
    ours = {rename(key): shape for key, shape in inside.items()}
    named = tuple(spec for spec in family.specs if fits(family, spec, ours))
    if family.correct:  # the file's own config has the last word
        named = tuple(replace(described, **spec.label) for spec in named)
    return Recognised(family, layout, prefix, named or (described,), described)


def fits(family: Family, spec: ModelSpec, shapes: Mapping[str | None, tuple[int, ...]]) -> bool:
    """Whether the network of `spec` has tensors of just these names (None: dropped) and shapes."""
    with torch.device("meta"):
        wanted = {name: tuple(x.shape) for name, x in family.build(spec).state_dict().items()}
    given = {
        name: plain_shape(shape, wanted.get(name, shape))
        for name, shape in shapes.items()
        if name is not None
    }
    return given == wanted


def plain_shape(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` without axes of length 1 at its end that are not wanted.

    Some files hold a matrix as a 1×1 convolution, or the gains of a norm as [C, 1, 1, 1].
    """
    axes = len(wanted)
    return shape[:axes] if set(shape[axes:]) == {1} else shape


@dataclass(frozen=True)
class Naming:
    """How a file names the weights of one network: what stands before each, and its own name for it."""

    prefix: str
    rename: Rename

    def __call__(self, key: str) -> str | None:
        """The network's name for a key of the file; None for one of another network, or known and dropped."""
        return self.rename(key.removeprefix(self.prefix)) if key.startswith(self.prefix) else None


def naming_for(family: Family, keys: Iterable[str], wanted: Iterable[str]) -> Naming:
    """How a file of this family with these `keys` names the network's tensors, `wanted`.

    Of the family's layouts and of the prefixes that tools write, the pair that names most of the network.
    """
    keys, wanted = list(keys), set(wanted)

    def named(naming: Naming) -> int:
        return sum(naming(key) in wanted for key in keys)

    return max(_namings(family, keys), key=named)


def _namings(family: Family, keys: list[str]) -> Iterator[Naming]:
    for prefix in PREFIXES:
        inside = [key.removeprefix(prefix) for key in keys if key.startswith(prefix)]
        for rename in [layout.renamer(inside) for layout in family.layouts] or [family.rename]:
            yield Naming(prefix, rename)
