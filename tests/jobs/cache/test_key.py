"""What must change a key does; what must not does not."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidlatent.engine.load import load_model
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.cache import key as keys
from vidlatent.jobs.cache.key import ModelIdentity, describe_read, make_entry_key, parse_read
from vidlatent.jobs.cache.recipe import Recipe
from vidlatent.windows import TimeRule, even_tiles

MODEL = load_model("toy", "cpu")
TOY = ModelIdentity.of(MODEL)
SOURCE = "ab" * 32
PINNED = "b06f1075fb52f07abfdd7b1840ace987e0fcc8315b516f8be612fcdc77479122"
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


def test_code_that_gives_other_latents_gives_other_keys(monkeypatch):
    before = make_entry_key(SOURCE, PLAIN, TOY)
    monkeypatch.setattr(keys, "CODE_VERSION", keys.CODE_VERSION + 1)
    assert make_entry_key(SOURCE, PLAIN, TOY) != before


def test_a_key_stays_what_it_was():
    """Every cache in the world hangs on this: if it fails, all keys changed. Do not."""
    identity = ModelIdentity({"name": "toy", "weights_sha256": ""})
    assert make_entry_key(SOURCE, PLAIN, identity) == PINNED
