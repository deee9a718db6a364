"""YUV4MPEG for another program: what goes down the pipe is read as what it was."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers import video_clips as clips

from vidlatent.errors import UsageError
from vidlatent.io.read.source import Colour, Picture, open_video
from vidlatent.io.write.sink import SinkOptions, open_sink

BT709 = Colour("bt709", "tv", "bt709", "bt709")
LEVELS = 2  # 8 bits of Y, Cb and Cr hold RGB to within two levels


def picture(**changes) -> Picture:
    facts = dict(width=63, height=47, sar=Fraction(1), colour=BT709, bit_depth=8,
                 time_base=Fraction(1, 30), rate=Fraction(30000, 1001))  # fmt: skip
    return Picture(**(facts | changes))


def piped(tmp_path, capsysbinary, frames, options=None, **facts) -> Path:
    """What a pipe would carry, as a file."""
    with open_sink("-", picture(**facts), options=options) as sink:
        for n, frame in enumerate(frames):
            sink.write(frame, n, 1)
    (tmp_path / "x.y4m").write_bytes(capsysbinary.readouterr().out)
    return tmp_path / "x.y4m"


@pytest.mark.parametrize("deep", [False, True])
def test_a_pipe_carries_every_frame_at_the_source_s_depth(tmp_path, capsysbinary, deep):
    scale = 257 if deep else 1
    frames = [clips.scene(n, (63, 47)).astype(np.uint16 if deep else np.uint8) * scale for n in range(3)]
    path = piped(tmp_path, capsysbinary, frames, bit_depth=10 if deep else 8)
    with open_video(path) as video:
        assert (video.info.average_rate, video.info.bit_depth) == (Fraction(30000, 1001), 10 if deep else 8)
    back = clips.frames(path, assume_matrix="bt709")
    for old, new in zip(frames, back, strict=True):
        assert np.abs(old.astype(int) - new.rgb).max() <= LEVELS * scale


@pytest.mark.parametrize(
    ("square", "shape"), [(False, (63, 47, Fraction(2))), (True, (126, 47, Fraction(1)))]
)
def test_a_pipe_tells_the_aspect_or_squares_it(tmp_path, capsysbinary, square, shape):
    frames = [clips.scene(0, (63, 47))]
    path = piped(tmp_path, capsysbinary, frames, SinkOptions(square_pixels=square), sar=Fraction(2))
    with open_video(path) as video:
        assert (video.info.width, video.info.height, video.info.sar) == shape


def test_a_pixel_format_without_a_name_there_is_refused():
    with pytest.raises(UsageError, match="YUV4MPEG has no pixel format gbrp"):
        open_sink("-", picture(), options=SinkOptions(pix_fmt="gbrp"))
