"""Facts about the picture in a header are checked before anything is made of them."""

import random
import shutil
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import pytest
from helpers.latent_edits import fact, inside, rewrite, without
from hypothesis import given, settings
from hypothesis import strategies as st

import vidlatent
from vidlatent.errors import BadLatentFile
from vidlatent.io.picture.colour import Colour
from vidlatent.io.picture.facts import MOST_CHARACTERS
from vidlatent.io.picture.info import Chapter, Picture
from vidlatent.io.picture.mastering import Mastering
from vidlatent.jobs.encode import EncodeOptions, ReadOptions
from vidlatent.jobs.inspect import inspect
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
    *(("tags", value) for value in (None, [], {"title": 7}, {"title": "x" * (MOST_CHARACTERS + 1)})),
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


@settings(max_examples=60, deadline=None)
@given(anything, st.sampled_from([*JSON, None]))
def test_whatever_a_header_holds_is_a_picture_or_a_value_error(value, name):
    with suppress(ValueError):
        Picture.from_json(value if name is None else {**JSON, name: value})


HOSTILE = {
    "height of 2^31": (inside("picture", "height", 1 << 31), "picture.height: expected 1 to 65536"),
    "no tags": (without("picture", "tags"), "picture: has no 'tags'"),
    "another size": (inside("picture", "width", 48), "picture of 48x32, latents of 32x32"),
    "a huge time base": (
        inside("picture", "time_base", f"1/{HUGE}"),
        "picture.time_base: expected a fraction",
    ),
    "a huge scale": (fact("scale", f"[{HUGE}]"), "scale: expected finite numbers"),
    "a scale beyond floats": (fact("scale", "[10e400]"), "scale: not valid JSON"),
    "a huge shift": (fact("shift", f"[{HUGE}]"), "shift: expected finite numbers"),
    "a shift of more digits than are read": (fact("shift", f"[{'9' * 5000}]"), "shift: not valid JSON"),
    "more frames than anybody has": (inside("source", "frames", HUGE), "source.frames: expected 0 to"),
}


@pytest.fixture(scope="module")
def made(sample, tmp_path_factory):
    """Latents of one frame."""
    path = tmp_path_factory.mktemp("made") / "x.latent"
    read = ReadOptions(frames=1, size=(32, 32))
    vidlatent.encode(sample, path, vidlatent.load_model("toy", device="cpu"), EncodeOptions(read=read))
    return path


@pytest.mark.parametrize("lie", HOSTILE)
def test_open_decode_and_inspect_say_what_is_wrong_with_a_header(made, tmp_path, lie):
    edit, told = HOSTILE[lie]
    path = Path(shutil.copy(made, tmp_path / "x.latent"))
    rewrite(path, edit)
    for use in (vidlatent.open_latent, partial(inspect, verify=False), partial(inspect, verify=True)):
        with pytest.raises(BadLatentFile, match=told) as caught:
            use(path)
        assert len(caught.value.what) < 300 + len(str(path)) and "\n" not in caught.value.what
    with pytest.raises(BadLatentFile, match=told):
        vidlatent.decode(path, tmp_path / "x.mp4")
    assert not (tmp_path / "x.mp4").exists()


def test_a_header_that_says_nothing_of_the_picture_is_read_but_not_decoded(made, tmp_path):
    path = Path(shutil.copy(made, tmp_path / "x.latent"))
    rewrite(path, fact("picture", {}))
    with vidlatent.open_latent(path) as latents:
        assert latents.read(0, 1).shape == (1, 768, 4, 4)
        with pytest.raises(BadLatentFile, match="picture: has no 'width'"):
            read_picture(latents)


def test_a_header_with_a_picture_that_cannot_be_is_never_written(made):
    with vidlatent.open_latent(made) as latents, pytest.raises(ValueError, match=r"picture\.sar"):
        replace(latents.header, picture={**latents.header.picture, "sar": "0"})


def test_no_single_flipped_bit_is_decoded_without_a_word(made, tmp_path):
    """Of 500 flips 87 were: in latents, times and facts that no other check covers."""
    whole, rng = made.read_bytes(), random.Random(0)
    path, model = tmp_path / "x.latent", vidlatent.load_model("toy", device="cpu")
    facts_end = whole.index(b"  ")
    places = [rng.randrange(facts_end) for _ in range(30)]
    places += [rng.randrange(len(whole) - 48 * 1024, len(whole)) for _ in range(20)]
    for place in places:
        raw = bytearray(whole)
        raw[place] ^= 1 << rng.randrange(8)
        path.write_bytes(raw)
        with pytest.raises(BadLatentFile):
            vidlatent.decode(path, tmp_path / "x.mkv", model)
    assert not (tmp_path / "x.mkv").exists()


def test_words_that_no_header_has_room_for_are_left_out_and_said(tmp_path):
    """A program that keeps its whole workflow in a tag made a header of megabytes: a traceback."""
    source, path = tmp_path / "x.mkv", tmp_path / "x.latent"
    times = [{"id": n, "start": n, "end": n + 1, "time_base": Fraction(1, 1000)} for n in range(1, 9)]
    titles = ["one", "x" * 1_000_000, *["more"] * 6]
    with av.open(str(source), "w") as container:
        container.metadata.update({"title": "short", "comment": "ü" * 100_000, "artist": "we"})
        container.set_chapters(
            [{**t, "metadata": {"title": title}} for t, title in zip(times, titles, strict=True)]
        )
        video = container.add_stream("ffv1", 25)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        frame = av.VideoFrame(32, 32, "yuv420p")
        container.mux(video.encode(frame))
        container.mux(video.encode(None))
    result = vidlatent.encode(source, path, vidlatent.load_model("toy", device="cpu"))
    assert {"tags too long to be carried along: comment", "only 7 of 8 chapters can be carried along"} <= set(
        result.notices
    )
    with vidlatent.open_latent(path) as latents:
        picture = read_picture(latents)
    assert picture.tags["title"] == "short" and picture.tags["artist"] == "we"
    assert [chapter.title for chapter in picture.chapters] == ["one", *["more"] * 6]
