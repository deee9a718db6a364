"""Sound of every kind gets into every kind of film: as it is where that is possible, else said."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from helpers import video_clips as clips

from vidlatent.io.sound.copy import copy_audio
from vidlatent.io.write.sink import SinkOptions

FAST = SinkOptions(preset="ultrafast")
AAC_FRAME_S = Fraction(1024, 48_000)
MILLISECOND = Fraction(1, 1000)


def rewritten(folder: Path, codec: str, source: str, target: str, start_ms: int = 0) -> SimpleNamespace:
    """A clip with this sound, read and written again."""
    recipe = clips.Recipe(codec="mpeg4", stamps=(0, 40, 80), audio=codec, audio_start=start_ms)
    path = clips.make(folder / f"in{source}", recipe)
    notices = clips.rewrite(path, folder / f"out{target}", FAST)
    return SimpleNamespace(source=path, target=folder / f"out{target}", notices=notices)


def data(path: Path) -> bytes:
    """The sound's packets, one after the other: PCM may be cut otherwise."""
    with av.open(str(path)) as container:
        return b"".join(bytes(packet) for packet in container.demux(audio=0) if packet.size)


def heard(path: Path) -> tuple[Fraction, Fraction]:
    """When the decoded sound begins and ends, in seconds."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    last = frames[-1]
    end = last.pts * last.time_base + Fraction(last.samples, last.sample_rate)
    return frames[0].pts * frames[0].time_base, end


# Among them PCM whose channels are counted but not named, and ALAC packets without a length.
@pytest.mark.parametrize(
    ("codec", "source", "target"),
    [
        ("pcm_s16le", ".mkv", ".mp4"), ("pcm_s16le", ".avi", ".mov"), ("alac", ".mkv", ".mp4"),
        ("pcm_mulaw", ".avi", ".mov"), ("eac3", ".mkv", ".mov"),
    ],
)  # fmt: skip
def test_packets_are_copied_and_all_of_them_are_heard(tmp_path, codec, source, target):
    done = rewritten(tmp_path, codec, source, target)
    assert data(done.target) == data(done.source) and done.notices == []
    assert heard(done.target)[1] >= heard(done.source)[1] - MILLISECOND


@pytest.mark.parametrize(
    ("codec", "source", "target", "said"),
    [
        ("flac", ".mkv", ".mov", "flac sound re-encoded to aac"),
        ("libopus", ".mkv", ".mov", "opus sound re-encoded to aac"),
        ("pcm_u8", ".avi", ".mp4", "pcm_u8 sound re-encoded to aac"),
        ("pcm_mulaw", ".avi", ".mp4", "pcm_mulaw sound re-encoded to aac"),
        ("adpcm_ms", ".avi", ".mp4", "adpcm_ms sound re-encoded to aac"),
    ],
)
def test_what_a_film_cannot_hold_is_re_encoded_in_its_place_and_said(tmp_path, codec, source, target, said):
    done = rewritten(tmp_path, codec, source, target, start_ms=100 if source == ".mkv" else 0)
    (notice,) = done.notices
    assert notice.startswith(said)
    begin, end = (new - old for old, new in zip(heard(done.source), heard(done.target), strict=True))
    assert -AAC_FRAME_S - MILLISECOND <= begin <= MILLISECOND  # of its run-in, a frame is heard as silence
    assert -MILLISECOND <= end < 2 * AAC_FRAME_S


@pytest.mark.parametrize(("codec", "source"), [("pcm_mulaw", ".avi"), ("adpcm_ima_qt", ".mov")])
def test_sound_that_matroska_cannot_hold_is_carried_all_the_same(tmp_path, codec, source):
    clip = clips.make(tmp_path / f"in{source}", clips.Recipe(codec="mpeg4", stamps=(0, 40), audio=codec))
    assert copy_audio(clip, tmp_path / "sound") > 0
    assert data(tmp_path / "sound") == data(clip)


def test_sound_whose_clock_stumbles_back_goes_into_a_film(tmp_path):
    """A joined transport stream's second half may have another sample rate than its header, and drift."""
    rates = (44_100, 32_000)
    for number, rate in enumerate(rates):
        with av.open(str(tmp_path / f"{number}.ts"), "w") as container:
            video, audio = container.add_stream("mpeg2video", 25), container.add_stream("mp2", rate)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            for index in range(25):
                frame = av.VideoFrame.from_ndarray(clips.scene(index, (64, 48)), "rgb24")
                container.mux(video.encode(frame.reformat(format="yuv420p")))
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 1152 * 20), np.int16), "s16", "stereo")
            silence.sample_rate = rate
            for part in (*av.AudioResampler("s16", "stereo", rate, 1152).resample(silence), None):
                container.mux(audio.encode(part))
            container.mux(video.encode(None))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join((tmp_path / f"{number}.ts").read_bytes() for number in range(len(rates))))
    clips.rewrite(joined, tmp_path / "out.mp4", FAST)
    assert len(clips.sound(tmp_path / "out.mp4")[0]) == len(clips.sound(joined)[0])
