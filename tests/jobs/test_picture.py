"""Facts about the picture in a header are checked before anything is made of them."""

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vidlatent
from vidlatent.errors import BadLatentFile, VidlatentError
from vidlatent.io.picture.colour import Colour
from vidlatent.io.picture.info import Chapter, Picture
from vidlatent.io.picture.mastering import Mastering
from vidlatent.jobs.encode import EncodeOptions, ReadOptions
from vidlatent.jobs.picture import read_picture

PICTURE = Picture(
    *(48, 32, Fraction(4, 3), Colour("bt709", "tv", "bt709", "bt709", ("matrix",)), 10, Fraction(1, 90_000)),
    *(Fraction(30_000, 1001), {"title": "größe"}, (Chapter(Fraction(0), Fraction(3, 2), "one"),)),
    Mastering((1, 2, 3, 4, 5, 6, 7, 8), (1, 10_000), (1000, 400)),
)
JSON = PICTURE.to_json()
HUGE = 10**400
WRONG = [
    *((name, value) for name in ("width", "height") for value in (0, 1 << 31, HUGE, "48", True, None, 4.5)),
    *(
        (name, value)
        for name in ("sar", "time_base")
        for value in ("1/0", "0", "-1", "1e99999999", "x", None, HUGE)
    ),
    *(("rate", value) for value in ("1/0", "1e9", "nan", [1], "9" * 400)),
    *(("bit_depth", value) for value in (0, 64, "8", HUGE)),
    *(("colour", value) for value in (None, [], {}, {"matrix": 1}, {**JSON["colour"], "range": 3})),
    *(("tags", value) for value in (None, [], {"title": 7}, {"title": "x" * (1 << 17)})),
    *(("chapters", value) for value in (None, {}, [1], [{}], [{"start": "1/0", "end": "1", "title": "x"}])),
    *(("mastering", value) for value in (7, {"primaries": [1]}, {"luminance": [1, HUGE]}, {"levels": "ab"})),
]


def test_a_picture_survives_its_json():
    assert Picture.from_json(JSON) == PICTURE
    assert Picture.from_json({**JSON, "reading": {}, "later": HUGE}) == PICTURE


@pytest.mark.parametrize("name", [name for name in JSON if name != "mastering"])
def test_a_missing_fact_is_named(name):
    with pytest.raises(ValueError, match=f"picture: has no '{name}'"):
        Picture.from_json({key: value for key, value in JSON.items() if key != name})


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda each: str(each)[:20])
def test_a_fact_that_cannot_be_is_refused_in_a_line(name, value):
    with pytest.raises(ValueError, match=rf"picture\.{name}") as caught:
        Picture.from_json({**JSON, name: value})
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*JSON, "start"]), inner),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(anything, st.sampled_from([*JSON, None]))
def test_whatever_a_header_holds_is_a_picture_or_a_value_error(value, name):
    with suppress(ValueError):
        Picture.from_json(value if name is None else {**JSON, name: value})


def test_decode_inspect_and_verify_say_what_is_wrong_with_a_picture(sample, tmp_path):
    path = tmp_path / "x.latent"
    read = ReadOptions(frames=1, size=(32, 32))
    vidlatent.encode(sample, path, vidlatent.load_model("toy", device="cpu"), EncodeOptions(read=read))
    with vidlatent.open_latent(path) as latents:
        assert read_picture(latents).width == 32
        broken = replace(latents.header, picture={**latents.header.picture, "width": 1 << 30})
        other = replace(latents.header, picture={**latents.header.picture, "width": 48})
        for header, told in (
            (broken, "picture.width: expected 1 to"),
            (other, "picture of 48x32, latents of 32x32"),
        ):
            latents.header = header
            with pytest.raises(BadLatentFile, match=told):
                vidlatent.decode(latents, tmp_path / "x.mp4")
    assert issubclass(BadLatentFile, VidlatentError) and not (tmp_path / "x.mp4").exists()
