"""Sound of every kind gets into every kind of film: as it is where that is possible, else said."""

import itertools
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from helpers import video_clips as clips

from vidlatent.errors import BadVideo
from vidlatent.io.sound.copy import copy_audio, read_shift
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


def with_sound(path: Path, codec: str, rate: int, seconds: int = 1) -> Path:
    """A clip of 25 pictures a second, and a tone at a sample rate of its own."""
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("mpeg4", 25), container.add_stream(codec, rate)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for index in range(25 * seconds):
            frame = av.VideoFrame.from_ndarray(clips.scene(index, (64, 48)), "rgb24")
            container.mux(video.encode(frame.reformat(format="yuv420p")))
        wave = (np.sin(np.arange(rate * seconds) / 20) * 8000).astype(np.int16)
        tone = av.AudioFrame.from_ndarray(np.repeat(wave, 2)[None], "s16", "stereo")
        tone.sample_rate, tone.pts, tone.time_base = rate, 0, Fraction(1, rate)
        resampler = av.AudioResampler(
            audio.codec_context.format, "stereo", rate, audio.codec_context.frame_size or None
        )
        for part in (*resampler.resample(tone), *resampler.resample(None), None):
            container.mux(audio.encode(part))
        container.mux(video.encode(None))
    return path


@pytest.mark.parametrize(("rate", "written"), [(192_000, 96_000), (96_000, 96_000), (11_025, 11_025)])
def test_sound_of_any_sample_rate_is_re_encoded_at_one_that_the_codec_has(tmp_path, rate, written):
    """AAC ends at 96 kHz: what is finer is resampled, and lasts as long."""
    source = with_sound(tmp_path / "in.mkv", "flac", rate)
    clips.rewrite(source, tmp_path / "out.mov", FAST)
    with av.open(str(tmp_path / "out.mov")) as container:
        assert container.streams.audio[0].rate == written
    begin, end = heard(tmp_path / "out.mov")
    assert abs(begin) <= MILLISECOND and abs(end - 1) <= Fraction(2 * 1024, written)


def test_opus_is_made_at_the_one_rate_that_it_has(tmp_path):
    source = with_sound(tmp_path / "in.mkv", "flac", 44_100)
    clips.rewrite(source, tmp_path / "out.webm", FAST)
    with av.open(str(tmp_path / "out.webm")) as container:
        assert container.streams.audio[0].codec.canonical_name == "opus"
    begin, end = heard(tmp_path / "out.webm")
    assert abs(begin) <= MILLISECOND and abs(end - 1) <= Fraction(2 * 960, 48_000)


def test_packets_that_cannot_be_decoded_are_counted_and_what_follows_keeps_its_time(tmp_path):
    source = with_sound(tmp_path / "in.mkv", "flac", 48_000, seconds=2)
    with av.open(str(source)) as container:
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    raw = source.read_bytes()
    for packet in packets[4:7]:
        assert raw.count(packet) == 1
        raw = raw.replace(packet, bytes(len(packet)))
    source.write_bytes(raw)
    notices = clips.rewrite(source, tmp_path / "out.mov", FAST)
    assert f"sound of 3 of {len(packets)} packets lost: they cannot be decoded" in notices
    assert abs(heard(tmp_path / "out.mov")[1] - 2) <= 2 * AAC_FRAME_S


def test_copied_packets_of_one_length_lie_on_an_exact_grid(tmp_path):
    """Matroska rounds to milliseconds; 1024 samples of 48 kHz last 21.333 of them, and MP4 can say so."""
    done = rewritten(tmp_path, "aac", ".mkv", ".mp4")
    starts = [start for _, start in clips.sound(done.target)[0]]
    assert {b - a for a, b in itertools.pairwise(starts)} == {AAC_FRAME_S}


@pytest.mark.parametrize("tag", ["1/0", "x", "1e9", "9" * 400, "1/" + "9" * 400, "", "0x10", "nan"])
def test_a_shift_that_is_no_time_is_one_line(tag):
    with pytest.raises(BadVideo, match="expected seconds as num/den") as caught:
        read_shift(tag)
    assert len(caught.value.what) < 200


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
