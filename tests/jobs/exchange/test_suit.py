"""What `--for` sets of a recipe, and what it leaves to the user."""

from fractions import Fraction

import pytest
from helpers.trainer_caches import pooling_model

from vidlatent.errors import UsageError
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.cache.buckets import Smaller
from vidlatent.jobs.cache.recipe import Recipe, adapt_to_clip
from vidlatent.jobs.exchange.needs import find_needs, list_words
from vidlatent.jobs.exchange.suit import suit
from vidlatent.jobs.reading.survey import Probe
from vidlatent.models import registry


def suited(word: str, model: str, **said) -> Recipe:
    spec = pooling_model(model).spec
    return suit(Recipe(spec.plan, **said), spec, word)


def size_of(recipe: Recipe, width: int, height: int, sar: Fraction = Fraction(1)) -> tuple[int, int] | None:
    """The size that a clip of this size is read at; None: its own."""
    probe = Probe(width, height, sar, 81, Fraction(5), Fraction(16))
    return adapt_to_clip(recipe, probe).read.size


@pytest.mark.parametrize("word", list_words())
def test_the_models_of_every_tool_are_models(word):
    _, _, needs = find_needs(word)
    for name in needs.models:
        spec = registry.find(name)
        assert needs.side % spec.grid.space == 0, "the trainer's steps are whole latents"
    assert needs.model is None or suited(word, needs.model)


def test_rate_dtype_and_posterior_are_those_of_the_trainer():
    wan = suited("musubi:wan", "wan-2.1")
    assert (wan.read.fps, wan.store, wan.posterior) == (16, "bf16", "mode")
    assert suited("finetrainers:wan", "wan-2.1").posterior == "full"
    assert (
        suited("musubi:qi", "qwen-image").read.frames == 1
        and suited("musubi:qi", "qwen-image").read.fps is None
    )


def test_what_was_said_stays():
    read = ReadOptions(fps=Fraction(12), frames=5, size=(64, 64))
    recipe = suited("musubi:wan", "wan-2.1", read=read, store="fp32", posterior="sample")
    assert (recipe.read, recipe.store, recipe.posterior) == (read, "fp32", "sample")
    told = suited("musubi:wan", "wan-2.1", buckets=((64, 32),), smaller=Smaller(64, 16))
    assert told.smaller == Smaller(64, 16)


def test_sides_are_cut_down_to_the_steps_of_the_trainer():
    wan, ltx = suited("musubi:wan", "wan-2.1"), suited("ltx2", "ltx-2")
    assert size_of(wan, 854, 480) == (848, 480) and size_of(ltx, 854, 480) == (832, 480)
    assert size_of(wan, 832, 480) is None, "a clip that fits is read as it is, so its entry is the usual one"
    assert size_of(wan, 832, 480, Fraction(4, 3)) == (1104, 480), "in square pixels"


@pytest.mark.parametrize(
    "said",
    [
        {"buckets": ((848, 480),)},
        {"read": ReadOptions(size=(848, 480))},
        {"read": ReadOptions(crop=(0, 0, 848, 480))},
    ],
)
def test_a_size_off_the_steps_is_refused_and_the_nearest_named(said):
    with pytest.raises(
        UsageError, match=r"(?s)ltx2: takes sides in steps of 32, not 848x480.*nearest size is 864x480"
    ):
        suited("ltx2", "ltx-2", **said)


def test_a_model_that_only_passes_for_another_is_refused():
    with pytest.raises(
        UsageError, match=r"(?s)trains on latents of wan-2.1.*the model is taew2_1.*model wan-2.1"
    ):
        suited("musubi:wan", "taew2_1")
