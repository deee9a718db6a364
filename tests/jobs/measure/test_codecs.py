import shlex
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest

from vidlatent.errors import BadInput
from vidlatent.jobs.measure.codecs import (
    CODECS,
    NEAR,
    Codec,
    count_stream_bits,
    decode_coded,
    encode_with_codec,
)


def generated(frames):
    """A clip as it is read: a generator that can be closed."""
    yield from frames


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_lossless_codec_gives_every_frame_back(moving_clip, dtype):
    frames = moving_clip(4, 33, 47).astype(dtype) * (257 if dtype == np.uint16 else 1)
    with encode_with_codec(CODECS["ffv1"], 0.0, lambda: generated(frames)) as clip:
        back = np.stack(list(decode_coded(clip)))
    assert back.dtype == dtype
    assert np.array_equal(back, frames)


@pytest.mark.parametrize("name", ["x264", "x265"])
def test_a_codec_meets_the_rate_it_was_given(moving_clip, name):
    noise = np.random.default_rng(0).integers(-20, 20, (8, 64, 96, 3))
    frames = np.clip(moving_clip(8, 64, 96) + noise, 0, 255).astype(np.uint8)
    with encode_with_codec(CODECS[name], 1.0, lambda: generated(frames)) as clip:
        assert clip.bits_per_pixel == pytest.approx(1.0, rel=2 * NEAR)
        assert clip.bits == pytest.approx(8 * clip.path.stat().st_size, rel=0.5)
        assert len(list(decode_coded(clip))) == 8
        assert clip.miss(1.0) is None and clip.miss(clip.bits_per_pixel / 1.11).endswith("+11 %")


def test_the_command_that_is_told_makes_the_same_stream_again(moving_clip, tmp_path):
    frames = moving_clip(4, 32, 48)
    with encode_with_codec(CODECS["x264"], 0.5, lambda: generated(frames)) as clip:
        told, kept = clip.describe(0.5), clip.path.read_bytes()
    program, *words = shlex.split(told.encode)
    assert program == "ffmpeg" and words[-1] == "coded.mkv" and f"-crf {told.crf:g}" in told.encode
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *words]
    subprocess.run(command, input=frames.tobytes(), cwd=tmp_path, check=True)
    assert count_stream_bits(tmp_path / "coded.mkv") == clip.bits
    assert abs((tmp_path / "coded.mkv").stat().st_size - len(kept)) < 100


def test_odd_sides_come_back_as_they_were(moving_clip):
    frames = moving_clip(3, 65, 97)
    with encode_with_codec(CODECS["x264"], 0.5, lambda: generated(frames)) as clip:
        back = list(decode_coded(clip))
    assert {frame.shape for frame in back} == {(65, 97, 3)}


def test_the_coded_file_is_gone_afterwards(moving_clip):
    with encode_with_codec(CODECS["ffv1"], 0.0, lambda: generated(moving_clip(2))) as clip:
        assert clip.path.exists()
    assert not clip.path.parent.exists()


def test_an_encoder_that_fails_speaks_for_itself(moving_clip):
    with (
        pytest.raises(BadInput, match=r"ffmpeg failed: .*libnothing"),
        encode_with_codec(Codec("bad", ("-c:v", "libnothing")), 0.0, lambda: generated(moving_clip(2))),
    ):
        pass


def test_a_clip_without_frames_is_refused():
    with (
        pytest.raises(BadInput, match="no frames"),
        encode_with_codec(CODECS["ffv1"], 0.0, lambda: generated([])),
    ):
        pass
