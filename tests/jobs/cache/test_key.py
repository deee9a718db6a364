"""What must change a key does; what must not does not."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidlatent.engine.load import load_model
from vidlatent.engine.model import Model
from vidlatent.engine.runtime import Runtime
from vidlatent.grid import Grid
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.cache import key as keys
from vidlatent.jobs.cache.key import (
    ModelIdentity,
    describe_read,
    make_entry_key,
    make_off_grid_key,
    make_recipe_id,
    parse_read,
)
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.models.options import Option
from vidlatent.models.toy_vae import ToyVAE
from vidlatent.windows import Plan, TimeRule, even_tiles

MODEL = load_model("toy", "cpu")
TOY = ModelIdentity.of(MODEL)
SOURCE = "ab" * 32
PINNED = "b06f1075fb52f07abfdd7b1840ace987e0fcc8315b516f8be612fcdc77479122"
PINNED_OF_LOADED = "9d1100eeb4ec8bdb5a06bb6f204f9c48409c522c17d4061e7128280f702c6dcb"
PLAIN = Recipe(MODEL.spec.plan)

seconds = st.none() | st.fractions(0, 100)
sizes = st.none() | st.tuples(st.integers(1, 4096), st.integers(1, 4096))
reads = st.builds(
    ReadOptions,
    start=seconds,
    end=seconds,
    frames=st.none() | st.integers(1, 500),
    fps=st.none() | st.fractions(1, 60),
    size=sizes,
    crop=st.none() | st.tuples(*[st.integers(0, 4096)] * 4),
    fit=st.sampled_from(["stretch", "crop", "pad"]),
    stream=st.integers(0, 3),
    deinterlace=st.booleans(),
    tonemap=st.booleans(),
    allow_truncated=st.booleans(),
    assume_matrix=st.none() | st.sampled_from(["bt709", "smpte170m"]),
    hwaccel=st.none() | st.just("cuda"),
)
recipes = st.builds(
    Recipe,
    plan=st.builds(
        replace,
        st.just(MODEL.spec.plan),
        encode_time=st.builds(TimeRule, st.integers(1, 64), st.integers(0, 8)),
        encode_tiles=st.none() | st.just(even_tiles(64, 0.25, 8)[0]),
    ),
    read=reads,
    posterior=st.sampled_from(["mode", "sample", "full"]),
    first_frame=st.booleans(),
    seed=st.integers(0, 3),
    store=st.none() | st.sampled_from(["fp32", "bf16", "fp16"]),
    buckets=st.lists(st.tuples(st.integers(1, 99), st.integers(1, 99)), max_size=3, unique=True).map(tuple),
)


def meant(recipe: Recipe) -> Recipe:
    """A recipe without what has no effect: the yardstick that keys are held against."""
    read = recipe.read if recipe.read.size else replace(recipe.read, fit="stretch")
    return replace(
        recipe,
        read=replace(read, threads=0),
        seed=recipe.seed if recipe.posterior == "sample" else 0,
        buckets=() if recipe.read.size else tuple(sorted(recipe.buckets)),
    )


@settings(deadline=None)
@given(recipes, recipes)
def test_two_recipes_share_a_key_exactly_where_they_mean_the_same(one, other):
    same = make_entry_key(SOURCE, one, TOY) == make_entry_key(SOURCE, other, TOY)
    assert same == (meant(one) == meant(other))


@settings(deadline=None)
@given(recipes, st.integers(0, 64))
def test_threads_order_of_buckets_and_idle_seeds_do_not_matter(recipe, threads):
    shuffled = replace(
        recipe, read=replace(recipe.read, threads=threads), buckets=tuple(reversed(recipe.buckets))
    )
    if recipe.posterior != "sample":
        shuffled = replace(shuffled, seed=recipe.seed + 1)
    assert make_entry_key(SOURCE, shuffled, TOY) == make_entry_key(SOURCE, recipe, TOY)


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_other_bytes_give_another_key(one, other):
    first, second = (make_entry_key(sha.hex(), PLAIN, TOY) for sha in (one, other))
    assert (first == second) == (one == other)


@settings(deadline=None)
@given(reads)
def test_what_is_kept_of_a_read_gives_the_same_read_again(read):
    again = parse_read(describe_read(read))
    assert again == (read if read.size else replace(read, fit="stretch"))


@pytest.mark.parametrize("field", ["fps", "start", "frames", "size"])
def test_every_option_counts_alone(field):
    value = {"fps": Fraction(24), "start": Fraction(1), "frames": 17, "size": (64, 64)}[field]
    changed = replace(PLAIN, read=replace(PLAIN.read, **{field: value}))
    assert make_entry_key(SOURCE, changed, TOY) != make_entry_key(SOURCE, PLAIN, TOY)


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("weights_sha256", "cd" * 32),
        ("name", "other"),
        ("compute_dtype", "bf16"),
        ("device_kind", "cuda"),
        ("config", {"_class_name": "ToyVAE", "more": 1}),
        ("scale", [2.0]),
        ("shift", [0.5]),
    ],
)
def test_another_model_gives_another_key(fact, value):
    assert make_entry_key(SOURCE, PLAIN, ModelIdentity({**TOY.facts, fact: value})) != make_entry_key(
        SOURCE, PLAIN, TOY
    )


def identity(runtime: Runtime = MODEL.runtime, weights_sha256: str = "", **facts) -> ModelIdentity:
    """Of a loaded toy that differs in these facts."""
    return ModelIdentity.of(Model(ToyVAE(replace(MODEL.spec, **facts)), runtime, weights_sha256))


@pytest.mark.parametrize(
    "difference",
    [
        {"name": "other"},
        {"config": {"_class_name": "ToyVAE", "more": 1}},
        {"grid": Grid(4, 16)},
        {"channels": 16},
        {"scale": (2.0,)},
        {"shift": (0.5,)},
        {"weights_sha256": "cd" * 32},
        {"runtime": Runtime(torch.device("cpu"), torch.bfloat16)},
        {"runtime": Runtime(torch.device("meta"), torch.float32)},
        {"options": (Option("blur", 0, "how much", latents=True),), "settings": {"blur": 1}},
    ],
)
def test_two_loaded_models_that_differ_in_one_fact_have_two_keys(difference):
    assert make_entry_key(SOURCE, PLAIN, identity(**difference)) != make_entry_key(SOURCE, PLAIN, TOY)
    assert make_recipe_id(PLAIN, identity(**difference)) != make_recipe_id(PLAIN, TOY)


def test_an_option_that_says_how_latents_are_decoded_changes_no_key():
    option = Option("blur", 0, "how much", latents=False)
    changed = identity(options=(option,), settings={"blur": 1})
    assert make_entry_key(SOURCE, PLAIN, changed) == make_entry_key(SOURCE, PLAIN, TOY)


def test_the_key_of_a_loaded_model_stays_what_it_was():
    """As below, for all that is taken of a model: if it fails, caches made before are made again."""
    assert make_entry_key(SOURCE, PLAIN, identity(weights_sha256="cd" * 32)) == PINNED_OF_LOADED


def test_code_that_gives_other_latents_gives_other_keys(monkeypatch):
    before = make_entry_key(SOURCE, PLAIN, TOY)
    monkeypatch.setattr(keys, "CODE_VERSION", keys.CODE_VERSION + 1)
    assert make_entry_key(SOURCE, PLAIN, TOY) != before


def test_a_key_stays_what_it_was():
    """Every cache in the world hangs on this: if it fails, all keys changed. Do not."""
    identity = ModelIdentity({"name": "toy", "weights_sha256": ""})
    assert make_entry_key(SOURCE, PLAIN, identity) == PINNED


PLAN = Plan(TimeRule(16), TimeRule(4))
PINS = {  # recipe → key of an entry, id of the recipe, as version 0.1.0 made them
    "plain": (Recipe(PLAN), PINNED, "f940210cd1bf6b47"),
    "fps": (
        Recipe(PLAN, ReadOptions(fps=Fraction(16), frames=81)),
        "422fab3b5b27de0dcdf4f31a36a7430fa220bac7c6b852ab018ebfa8b576772f",
        "2f0c2d8c9871da89",
    ),
    "span": (
        Recipe(PLAN, ReadOptions(start=Fraction(1), end=Fraction(2))),
        "7f3948f7e618115a9bd6ae919b46d1b5dd5cba653f689f65bdbc6fb2f4dd2ac5",
        "338588518f2a9eb6",
    ),
    "buckets": (
        Recipe(PLAN, buckets=((832, 480), (480, 832))),
        "e11990bf5e8ba4b9877485e84fee95b412d5f933f449dc696054449dd1402d57",
        "40f35f577b69055c",
    ),
    "full": (
        Recipe(PLAN, posterior="full", store="bf16"),
        "b9f254827d734f5a3ed0bde93d47707f332e377490a5191a4d1e1623e9308e72",
        "e4bc05815e7febca",
    ),
    "size": (
        Recipe(PLAN, ReadOptions(size=(64, 64), fit="crop")),
        "61ca3e4ac1fff943da535f74c13dd80e3b767190b5bacd49e142d7d0d9e1740e",
        "a923e88e830f8568",
    ),
    "chunk": (Recipe(PLAN, chunk_s=Fraction(2)), PINNED, "63d9407e63a95599"),
}


@pytest.mark.parametrize("name", PINS)
def test_options_at_their_default_change_no_key_of_before(name):
    identity = ModelIdentity({"name": "toy", "weights_sha256": ""})
    recipe, key, recipe_id = PINS[name]
    assert make_entry_key(SOURCE, recipe, identity) == key
    assert make_recipe_id(recipe, identity) == recipe_id


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(PLAN, ReadOptions(fps=Fraction(16), end=Fraction(2))),
        Recipe(PLAN, ReadOptions(fps=Fraction(16), start=Fraction(2))),
        Recipe(PLAN, posterior="sample"),
    ],
)
def test_what_was_wrong_before_has_another_key_now(recipe):
    """Frames at another rate were counted from the span, and all clips were drawn with one noise."""
    said = keys.describe(recipe, TOY)["recipe"]
    assert ("slots" in said) == (recipe.read.fps is not None)
    assert ("noise" in said) == (recipe.posterior == "sample")


@pytest.mark.parametrize("fact", ["first_frame", "pack"])
def test_what_is_only_made_where_it_is_asked_for_is_only_said_there(fact):
    asked = replace(PLAIN, **{fact: True})
    assert (
        keys.describe(asked, TOY)["recipe"][fact] is True and fact not in keys.describe(PLAIN, TOY)["recipe"]
    )
    assert make_entry_key(SOURCE, asked, TOY) != make_entry_key(SOURCE, PLAIN, TOY)


def test_the_rule_for_clips_off_the_grid_is_part_of_what_a_run_asks_for():
    ids = {rule: make_recipe_id(replace(PLAIN, frames_rule=rule), TOY) for rule in ("cut", "pad", "drop")}
    assert len(set(ids.values())) == 3 and ids["cut"] == make_recipe_id(PLAIN, TOY)


def test_a_clip_off_the_grid_has_a_key_for_every_rule():
    found = {
        make_off_grid_key(SOURCE, replace(PLAIN, frames_rule=rule), TOY, exact)
        for rule in ("cut", "pad", "drop")
        for exact in (False, True)
    }
    assert len(found) == 6 and make_entry_key(SOURCE, PLAIN, TOY) not in found
    assert {make_entry_key(SOURCE, replace(PLAIN, frames_rule=rule), TOY) for rule in ("cut", "pad")} == {
        make_entry_key(SOURCE, PLAIN, TOY)
    }
