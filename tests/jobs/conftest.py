"""Small clips on disk, and a model that loses nothing."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vidlatent.engine.load import load_model
from vidlatent.io.write.images import encode_image
from vidlatent.jobs.measure.roundtrip import Subject


@pytest.fixture(scope="session")
def write_clip():
    """Writes frames [T, H, W, 3] as a folder of PNG with their times, in ticks of `time_base`."""

    def write(
        folder: Path, frames: np.ndarray, start: int = 0, step: int = 1, time_base: str = "1/25"
    ) -> Path:
        folder.mkdir()
        for i, frame in enumerate(frames):
            (folder / f"{i:04d}.png").write_bytes(encode_image(frame))
        pts = [start + step * i for i in range(len(frames))]
        times = {"time_base": str(Fraction(time_base)), "pts": pts, "durations": [step] * len(pts)}
        (folder / "timestamps.json").write_text(json.dumps(times))
        return folder

    return write


@pytest.fixture
def as_clip(tmp_path, write_clip):
    """The same, by name, in this test's own folder."""
    return lambda name, *arguments, **more: write_clip(tmp_path / name, *arguments, **more)


@pytest.fixture
def as_video(tmp_path):
    """Frames [T, H, W, 3] as planes of a YUV4MPEG file, which is read much faster than images."""

    def write(name: str, frames: np.ndarray) -> Path:
        _, height, width, _ = frames.shape
        head, planes = f"YUV4MPEG2 W{width} H{height} F25:1 C444\n", frames.transpose(0, 3, 1, 2)
        (tmp_path / name).write_bytes(head.encode() + b"".join(b"FRAME\n" + one.tobytes() for one in planes))
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def toy() -> Subject:
    """A model that folds pixels and unfolds them again."""
    model = load_model("toy", device="cpu")
    return Subject("toy", model, "fp32", model.spec.plan)
