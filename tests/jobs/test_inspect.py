"""What a file says of itself, stream by stream, and how its pixels came to be."""

import os
from pathlib import Path

import av
import numpy as np
import pytest

from vidlatent.errors import BadVideo, UsageError
from vidlatent.io.read.source import ReadOptions
from vidlatent.jobs.encode import EncodeOptions, encode
from vidlatent.jobs.inspect import inspect

WIDTHS = (64, 96)


@pytest.fixture
def two_streams(tmp_path) -> Path:
    """A film with two video tracks of different widths."""
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("ffv1", 25) for _ in WIDTHS]
        for stream, width in zip(streams, WIDTHS, strict=True):
            stream.width, stream.height, stream.pix_fmt = width, 48, "yuv420p"
        for stream, width in zip(streams, WIDTHS, strict=True):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, width, 3), np.uint8), "rgb24")
            container.mux(stream.encode(frame) + stream.encode(None))
    return path


@pytest.mark.parametrize("stream", [0, 1])
def test_the_stream_asked_for_is_told_of(two_streams, stream):
    facts = inspect(two_streams, stream=stream)
    assert (facts["stream"], facts["width"], facts["video_streams"]) == (stream, WIDTHS[stream], 2)


def test_a_stream_that_is_not_there_is_refused(two_streams):
    with pytest.raises(UsageError, match="no video stream 2"):
        inspect(two_streams, stream=2)


def test_latents_tell_how_their_pictures_were_read(two_streams, tmp_path, toy):
    target, options = tmp_path / "clip.latent", EncodeOptions(ReadOptions(stream=1, crop=(8, 0, 32, 32)))
    encode(two_streams, target, toy.model, options)
    assert inspect(target)["picture"]["reading"] == {
        "window": None,
        "rotation": 0,
        "flip": False,
        "asked": {"stream": 1, "crop": [8, 0, 32, 32]},
    }
    with pytest.raises(UsageError, match="no stream 1"):
        inspect(target, stream=1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.parametrize("name", ["a.latent", "a.safetensors", "a.mp4"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name):
    """Whoever opens one that nobody writes into waits for ever."""
    os.mkfifo(tmp_path / name)
    with pytest.raises(BadVideo, match="a pipe or a device"):
        inspect(tmp_path / name)
