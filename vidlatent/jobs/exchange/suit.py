"""A recipe as a trainer expects its caches: `cache --for TOOL[:ARCH]`."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from vidlatent.errors import UsageError, parameter
from vidlatent.jobs.cache.buckets import Smaller
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.jobs.exchange.needs import Needs, find_needs
from vidlatent.jobs.exchange.vaes import Vae, refuse_other_vae
from vidlatent.models.base import ModelSpec

ANY_AREA = 1 << 62  # pixels: no clip is too large to keep its size


def suit(recipe: Recipe, spec: ModelSpec, word: str) -> Recipe:
    """The recipe with what the trainer expects where nothing else was said.

    Raises UsageError where the model, or a size that was said, is of no use to it.
    """
    _, _, needs = find_needs(word)
    refuse_other_vae(Vae.of_spec(spec), needs, word, "the model is")
    refuse_sizes(recipe, needs, word)
    read = recipe.read
    if needs.still and recipe.take is None:
        read = replace(read, frames=read.frames or 1)
    elif needs.fps and read.fps is None and not needs.still:
        read = replace(read, fps=Fraction(needs.fps))
    own_sizes = not recipe.buckets and recipe.smaller is None
    return replace(
        recipe,
        read=read,
        store=recipe.store or needs.store,
        posterior=needs.posterior if needs.posterior and recipe.posterior == "mode" else recipe.posterior,
        smaller=Smaller(ANY_AREA, needs.side) if own_sizes and needs.side > 1 else recipe.smaller,
    )


def refuse_sizes(recipe: Recipe, needs: Needs, word: str) -> None:
    """Raise UsageError for a size that was asked for and has a side off the trainer's steps."""
    for width, height in _list_sizes(recipe):
        if width % needs.side or height % needs.side:
            near = "x".join(
                str(max(1, (s + needs.side // 2) // needs.side) * needs.side) for s in (width, height)
            )
            raise UsageError(
                f"{parameter('trainer')} {word}: takes sides in steps of {needs.side}, not {width}x{height}",
                f"the nearest size is {near}",
            )


def _list_sizes(recipe: Recipe) -> Iterator[tuple[int, int]]:
    yield from (bucket[:2] for bucket in recipe.buckets)  # type: ignore[misc]
    if recipe.read.size is not None:
        yield recipe.read.size
    elif recipe.read.crop is not None and not recipe.buckets:
        yield recipe.read.crop[2:]
