"""Facts are checked where they are made, and survive their spelling as metadata."""

import pytest
from helpers.latent_edits import picture_of
from hypothesis import given, settings
from hypothesis import strategies as st

from vidlatent.grid import Grid
from vidlatent.io.latent import strict_json as js
from vidlatent.io.latent.header import LatentHeader, Pad, Source
from vidlatent.windows import Plan, Tiling, TimeRule

PLAN = Plan(TimeRule(32, 1), TimeRule(15, 1))
SOURCE = Source("clip.mp4", 17, 32, 16)

tilings = st.none() | st.builds(
    lambda size, cut, blend, slivers, whole, grain: Tiling(
        size, max(1, size - cut), blend, size, slivers, whole, min(grain, max(1, blend))
    ),
    *(st.integers(1, 512), st.integers(0, 64), st.integers(0, 64), st.booleans()),
    *(st.none() | st.integers(0, 512), st.integers(1, 4)),
)
strides = st.integers(0, 10_000)
rules = (
    st.builds(TimeRule, strides, st.integers(0, 64))
    | st.builds(TimeRule, strides, st.integers(1, 64), st.integers(0, 64))
    | st.builds(TimeRule, strides, batches=st.booleans(), past=st.integers(0, 4096))
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(), values, max_size=4)
scales = st.lists(st.floats(0.01, 100), min_size=1, max_size=16).map(tuple)


@settings(max_examples=40, deadline=None)
@given(
    plan=st.builds(Plan, rules, rules, tilings, tilings, tilings, tilings),
    grid=st.builds(Grid, st.integers(1, 8), st.integers(1, 32), st.booleans()),
    more=objects,
    config=objects,
    scale=scales,
    extra=st.dictionaries(st.text().map(lambda key: f"x-{key}"), st.text(), max_size=3),
    seed=st.none() | st.integers(0, (1 << 64) - 1),
)
def test_a_header_survives_its_metadata(plan, grid, more, config, scale, extra, seed):
    header = LatentHeader(
        *("od-vae-1.2", "0" * 64, config, grid, plan, Source("größe.mkv", 9, 30, 20, "a" * 64), Pad(3, 2, 1)),
        posterior="mode" if seed is None else "sample",
        seed=seed,
        scale=scale,
        shift=scale,
        exactness="stream-equals-whole",
        picture={**more, **picture_of(30, 20)},
        extra=extra,
    )
    metadata = header.to_metadata()
    assert all(isinstance(text, str) for text in metadata.values())
    assert LatentHeader.from_metadata(metadata) == header


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"grid": Grid(0, 8)}, "grid.time: expected 1 to 64, got 0"),
        ({"grid": Grid(4, 8, pairs=1)}, "grid.pairs: expected true or false, got 1"),
        ({"plan": Plan(TimeRule(32, 9999), TimeRule(15))}, "plan.encode_time.overlap: expected 0 to 4096"),
        ({"posterior": "mean"}, "posterior: expected mode or sample or full, got 'mean'"),
        ({"posterior": "sample"}, "seed of a sampled posterior: expected an integer, got None"),
        ({"seed": 3}, "nothing is drawn with posterior mode, got 3"),
        ({"scale": (0.5, 0.0)}, "scale: 0 cannot be undone"),
        ({"scale": (float("nan"),)}, "scale: expected finite numbers, got nan"),
        ({"shift": ()}, "shift: expected 1 to 4096 numbers"),
        ({"weights_sha256": "abc"}, "weights_sha256: expected 64 hexadecimal digits, got 'abc'"),
        ({"model": None}, "model: expected a string, got None"),
        ({"exactness": "yes"}, "exactness: expected stream-equals-whole or reference-windows"),
    ],
)
def test_facts_that_cannot_be_are_refused_where_they_are_made(facts: dict, told: str):
    base = {"model": "toy", "weights_sha256": "", "config": {}, "grid": Grid(4, 8), "plan": PLAN}
    with pytest.raises(ValueError, match=told):
        LatentHeader(**{**base, "source": SOURCE, **facts})


def test_json_of_ours_has_one_spelling():
    assert js.dump({"b": 1, "a": [0.5, "ü"]}) == '{"a":[0.5,"\\u00fc"],"b":1}'


def test_json_of_ours_has_no_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        js.dump({"scale": float("nan")})
