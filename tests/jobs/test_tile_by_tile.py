"""Files that were made tile by tile, under a limit, are those that are made all at once."""

from fractions import Fraction

import numpy as np
import pytest
from helpers.cases import one_thread  # noqa: F401
from helpers.random_models import random_model
from helpers.video_clips import Recipe, make

from vidlatent.engine.memory import Fit
from vidlatent.engine.plan import PlanWishes
from vidlatent.io.read.source import open_video
from vidlatent.io.write.sink import SinkOptions
from vidlatent.jobs import decode as decoding
from vidlatent.jobs import encode as encoding
from vidlatent.jobs.decode import DecodeOptions, decode
from vidlatent.jobs.encode import EncodeOptions, encode
from vidlatent.jobs.reading.isolated import IsolatedReader

CLIP = Recipe(size=(72, 40), stamps=tuple(range(0, 840, 40)))  # 21 frames
TILES = 6  # of 32 px in 72×40, three quarters of a tile apart


class Heard:
    """Keeps what a job says of its progress."""

    def __init__(self):
        self.total, self.done = None, []

    def begin(self, what, total):
        self.total = total

    def frames(self, done):
        self.done.append(done)


@pytest.fixture(scope="module")
def model():
    return random_model("wf")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make(tmp_path_factory.mktemp("clip") / "clip.mkv", CLIP)


@pytest.fixture
def tilewise(monkeypatch):
    """Lets both jobs send the tiles through one by one, as a limit would have it."""

    def settle(model, plan, work, limit):
        assert work.rereadable
        return Fit(plan, ("one tile after the other",), passes=TILES)

    monkeypatch.setattr(encoding, "settle", settle)
    monkeypatch.setattr(decoding, "settle", settle)


def options(model) -> EncodeOptions:
    return EncodeOptions(plan=model.plan(window=5, latent_window=2, tile=32, overlap=0.25))


def test_the_latent_is_the_same_file(clip, model, tmp_path, request):
    encode(clip, tmp_path / "usual.latent", model, options(model))
    request.getfixturevalue("tilewise")
    heard = Heard()
    result = encode(clip, tmp_path / "tiled.latent", model, options(model), heard)
    assert (tmp_path / "tiled.latent").read_bytes() == (tmp_path / "usual.latent").read_bytes()
    assert result.frames == 21 and result.notices[0] == "one tile after the other"
    assert heard.done == [n // TILES for n in range(1, TILES * 21 + 1)]


def test_a_source_in_another_process_is_opened_again_there(clip, model, tmp_path, request):
    encode(clip, tmp_path / "usual.latent", model, options(model))
    request.getfixturevalue("tilewise")
    with IsolatedReader() as reader:
        encode(clip, tmp_path / "tiled.latent", model, options(model), open_source=reader.open)
    assert (tmp_path / "tiled.latent").read_bytes() == (tmp_path / "usual.latent").read_bytes()


def frames_of(path) -> np.ndarray:
    with open_video(path) as video:
        return np.stack([frame.rgb for frame in video.frames()])


@pytest.mark.parametrize("span", [{}, {"start": Fraction(1, 5), "end": Fraction(2, 5)}])
def test_the_film_is_the_same(clip, model, tmp_path, request, span):
    encode(clip, tmp_path / "clip.latent", model, options(model))
    lossless = DecodeOptions(sink=SinkOptions(codec="ffv1"), **span)
    decode(tmp_path / "clip.latent", tmp_path / "usual.mkv", model, lossless)
    request.getfixturevalue("tilewise")
    heard = Heard()
    decode(tmp_path / "clip.latent", tmp_path / "tiled.mkv", model, lossless, heard)
    assert np.array_equal(frames_of(tmp_path / "tiled.mkv"), frames_of(tmp_path / "usual.mkv"))
    assert heard.done == sorted(heard.done) and heard.done[-1] == heard.total
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.latent", "tiled.mkv", "usual.mkv"]


def test_an_error_leaves_nothing_beside_the_target(clip, model, tmp_path, tilewise, monkeypatch):
    def broken(latents, state):
        raise RuntimeError("network down")
        yield

    encode(clip, tmp_path / "clip.latent", model, options(model))
    monkeypatch.setattr(model.network, "decode", broken)
    with pytest.raises(RuntimeError, match="network down"):
        decode(tmp_path / "clip.latent", tmp_path / "tiled.mkv", model, DecodeOptions(plan=PlanWishes()))
    assert [path.name for path in tmp_path.iterdir()] == ["clip.latent"]
