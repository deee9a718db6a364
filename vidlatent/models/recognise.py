"""What a bare weight file is, told by the names and shapes of the tensors in it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from vidlatent.errors import BadWeights, UsageError, parameter
from vidlatent.models.base import Family, Layout, ModelSpec, Shapes

# What stands before the names where a tool wrote the weights together with those of other networks.
PREFIXES = ("", "vae.", "model.", "first_stage_model.", "module.")

Rename = Callable[[str], str | None]


@dataclass(frozen=True)
class Recognised:
    """What a file holds: a family's weights in one of its layouts, and the models that they can be of.

    `specs` are the named models of that network, or where there is none the one that the shapes describe.
    """

    family: Family
    layout: Layout
    prefix: str
    specs: tuple[ModelSpec, ...]

    def one(self, path: Path) -> ModelSpec:
        """The model; raises UsageError where several differ in what their latents mean.

        Unless the name of the file tells, as for those tiny models that have nothing else to be told by.
        """
        told = [spec for spec in self.specs if spec.name in path.name]
        if len(told) == 1:
            return told[0]
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
        described = family.spec_of(layout.config(inside))
    except (KeyError, IndexError, ValueError) as e:
        raise BadWeights(
            f"{path}: has the names of {family.name} but not its shapes ({e})",
            "give the config.json that came with these weights by --config",
        ) from e
    ours = {layout.rename(key): shape for key, shape in inside.items()}
    named = tuple(spec for spec in family.specs if fits(family, spec, ours))
    return Recognised(family, layout, prefix, named or (described,))


def fits(family: Family, spec: ModelSpec, shapes: Mapping[str | None, tuple[int, ...]]) -> bool:
    """Whether the network of `spec` has tensors of just these names (None: dropped) and shapes."""
    with torch.device("meta"):
        wanted = {name: tuple(x.shape) for name, x in family.build(spec).state_dict().items()}
    given = {
        name: plain_shape(shape, wanted.get(name, ())) for name, shape in shapes.items() if name is not None
    }
    return given == wanted


def plain_shape(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` without axes of length 1 at its end that are not wanted.

    Some files hold a matrix as a 1×1 convolution, or the gains of a norm as [C, 1, 1, 1].
    """
    axes = len(wanted)
    return shape[:axes] if axes and set(shape[axes:]) == {1} else shape


def rename_for(family: Family, keys: Iterable[str], wanted: Iterable[str]) -> Rename:
    """How the keys of a file of this family become the network's names, `wanted`.

    Of the family's layouts and of the prefixes that tools write, the pair that names most of the network.
    """
    keys, wanted = list(keys), set(wanted)

    def named(rename: Rename) -> int:
        return sum(rename(key) in wanted for key in keys)

    return max(_renames(family), key=named)


def _renames(family: Family) -> Iterator[Rename]:
    for layout_rename in [layout.rename for layout in family.layouts] or [family.rename]:
        for prefix in PREFIXES:
            yield _behind(prefix, layout_rename)


def _behind(prefix: str, rename: Rename) -> Rename:
    """`rename` for keys behind a prefix; all others are of other networks."""
    return lambda key: rename(key.removeprefix(prefix)) if key.startswith(prefix) else None
