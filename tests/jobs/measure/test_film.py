"""The film of a report: both sides in one picture, at the clip's times, and never large."""

import io

import av
import numpy as np
import pytest

from vidlatent.jobs.measure import film as films
from vidlatent.jobs.measure.film import HALF_PX, Film


def play(film: bytes) -> list[av.VideoFrame]:
    with av.open(io.BytesIO(film)) as opened:
        return list(opened.decode(video=0))


def test_the_source_is_left_and_the_reconstruction_right_at_the_clips_times():
    film, times = Film(1.0), [0.0, 0.04, 0.3]
    for time in times:
        film.update(np.full((24, 40, 3), 200, np.uint8), np.full((24, 40, 3), 60, np.uint8), time)
    shown = play(film.finish())
    assert [frame.time for frame in shown] == [pytest.approx(time, abs=1e-4) for time in times]
    pixels = shown[-1].to_ndarray(format="rgb24").astype(int)
    assert pixels.shape == (24, 80, 3)
    assert np.abs(pixels[:, :36] - 200).max() <= 4 and np.abs(pixels[:, 44:] - 60).max() <= 4


def test_wide_and_odd_frames_of_any_depth_are_made_small():
    film = Film(1.0)
    film.update(*(np.full((101, 1001, 3), level, np.uint16) for level in (0, 65535)), 0.0)
    (frame,) = play(film.finish())
    assert (frame.width, frame.height) == (2 * HALF_PX, 48)


def test_a_film_ends_after_its_seconds_or_its_bytes(monkeypatch):
    def count(seconds: float) -> int:
        film, noise = Film(seconds), np.random.default_rng(0)
        for n in range(60):
            frame = noise.integers(0, 256, (48, 64, 3)).astype(np.uint8)
            film.update(frame, frame, n / 20)
        return len(play(film.finish()))

    assert count(1.0) == 20
    monkeypatch.setattr(films, "MOST_BYTES", 30_000)
    assert 5 < count(3.0) < 50


def test_no_seconds_no_film():
    film = Film(0.0)
    film.update(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), 0.0)
    assert film.finish() == b""
