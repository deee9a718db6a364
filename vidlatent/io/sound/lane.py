"""How one audio track gets into a container: copied, or re-encoded where the container cannot hold it."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from io import BytesIO
from typing import Protocol

import av
from av import AudioFrame, AudioLayout, AudioResampler, CodecContext, Packet
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError

from vidlatent.io.sound.languages import spell_language

_ROUNDING_S = Fraction(2, 1000)  # how far Matroska's milliseconds may be from the exact time
_KEPT = ("language", "title", "handler_name")
_SUBSTITUTES = {"webm": "libopus"}  # elsewhere AAC
_OPUS_HZ = 48_000
_USUAL = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}  # by channels
_AAC_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)

EXPERIMENTAL = {"strict": "experimental"}  # for muxers: TrueHD in MP4 is called that
Timed = tuple[Fraction, Packet]


class Lane(Protocol):
    """Turns the packets of one audio track into packets that can be muxed into a container."""

    notice: str
    packets: int  # how many were taken
    damaged: int  # how many of those could not be decoded

    def take(self, packet: Packet, about: Fraction) -> Iterator[Timed]:
        """The packets to mux, with their start in seconds, for a source packet that starts at `about`."""
        ...

    def flush(self) -> Iterator[Timed]:
        """The packets that are still held back, at the end of the track."""
        ...


def lost_language(target: OutputContainer, track: AudioStream) -> list[str]:
    """A notice, in a list, where the container cannot name a track's language."""
    language = track.language
    if language in (None, "und") or spell_language(language, target.format.name):
        return []
    return [f"{target.format.name} cannot tell the language {language} of its sound: left out"]


def lane_for(target: OutputContainer, track: AudioStream) -> Lane:
    """A lane that copies where the container can hold the track's codec, else one that re-encodes."""
    return CopyLane(target, track) if _can_hold(target.format.name, track) else RecodeLane(target, track)


def _can_hold(kind: str, track: AudioStream) -> bool:
    """Whether a container of this kind takes the track as it is.

    A trial file answers that: lists of codecs name some that the muxer then refuses.
    """
    trial = av.open(BytesIO(), "w", format=kind, container_options=EXPERIMENTAL)
    try:
        add_copy(trial, track)
        trial.start_encoding()
    except (FFmpegError, ValueError):  # the muxer's answer, and PyAV's
        return False
    finally:
        with suppress(FFmpegError):  # some muxers cannot finish a file without packets
            trial.close()
    return True


def add_copy(target: OutputContainer, track: AudioStream) -> AudioStream:
    """Add a stream to `target` for unchanged packets of `track`, with its language and title.

    Where channels are only counted, they get their usual names: without names MP4 takes no PCM.
    """
    copy, layout = target.add_stream_from_template(track), track.codec_context.layout
    if layout.name.endswith("channels") and layout.nb_channels in _USUAL:
        copy.codec_context.layout = _USUAL[layout.nb_channels]
    return _copy_labels(copy, track)


def _copy_labels(stream: AudioStream, like: AudioStream) -> AudioStream:
    stream.metadata.update({k: v for k, v in like.metadata.items() if k in _KEPT})
    if "language" in stream.metadata:
        stream.metadata["language"] = (
            spell_language(stream.metadata["language"], stream.container.format.name) or "und"
        )
    stream.disposition = like.disposition
    return stream


class CopyLane:
    """Copies packets as they are. Those of constant length are put on an exact grid.

    A packet of unknown length (ALAC in Matroska) waits for the next one, which shows how long it lasts: MP4
    plays nothing of a packet that lasts 0.
    """

    notice = ""
    packets = damaged = 0  # nothing is decoded, so no damage is found

    def __init__(self, target: OutputContainer, track: AudioStream) -> None:
        self._stream = add_copy(target, track)
        rate = track.codec_context.sample_rate
        samples = track.codec_context.frame_size
        self._tick = Fraction(1, rate or 90_000)
        self._length = Fraction(samples, rate) if samples and rate else None
        self._expected: Fraction | None = None
        self._waiting: Timed | None = None
        self._last = -sys.maxsize
        self._step = 1  # ticks from the packet before to this one

    def take(self, packet: Packet, about: Fraction) -> Iterator[Timed]:
        """See Lane."""
        length = self._length or (packet.duration or 0) * packet.time_base
        at = self._on_grid(about)
        packet.time_base = self._tick
        self._last = max(self._last + 1, round(at / self._tick))  # muxers demand that times increase
        packet.pts = packet.dts = self._last
        packet.duration = round(length / self._tick)
        packet.stream = self._stream
        if self._waiting is not None:
            self._step = max(1, packet.pts - self._waiting[1].pts)
        yield from self.flush()
        if packet.duration:
            yield at, packet
        else:
            self._waiting = at, packet

    def _on_grid(self, about: Fraction) -> Fraction:
        if self._length is None:
            return about
        near = self._expected is not None and abs(about - self._expected) <= _ROUNDING_S
        at = self._expected if near else about
        self._expected = at + self._length
        return at

    def flush(self) -> Iterator[Timed]:
        """See Lane."""
        if self._waiting is not None:
            self._waiting[1].duration = self._step
            yield self._waiting
            self._waiting = None


class RecodeLane:
    """Decodes and encodes again, for containers that cannot hold the source's codec."""

    def __init__(self, target: OutputContainer, track: AudioStream) -> None:
        codec = _SUBSTITUTES.get(target.format.name, "aac")
        rate = track.codec_context.sample_rate
        rate = _OPUS_HZ if codec == "libopus" else next((hz for hz in _AAC_HZ if hz >= rate), _AAC_HZ[-1])
        self.packets = self.damaged = 0
        self._stream = _copy_labels(target.add_stream(codec, rate), track)
        layout = AudioLayout(_choose_layout(codec, rate, track.codec_context.layout))
        self._stream.codec_context.layout = layout
        self._stream.codec_context.bit_rate = 64_000 * layout.nb_channels
        self._resampler = AudioResampler(format=self._stream.codec_context.format, layout=layout, rate=rate)
        self.notice = (
            f"{track.codec_context.name} sound re-encoded to {codec}: {target.format.name} cannot hold it"
        )

    def take(self, packet: Packet, about: Fraction) -> Iterator[Timed]:
        """See Lane."""
        at = about
        for frame in self._decode(packet):
            if frame.pts is not None and packet.pts is not None:  # later where the decoder drops its priming
                at = about + frame.pts * frame.time_base - packet.pts * packet.time_base
            frame.time_base = Fraction(1, frame.sample_rate)
            frame.pts = round(at * frame.sample_rate)
            at += Fraction(frame.samples, frame.sample_rate)
            for part in self._resampler.resample(frame):
                yield from self._encode(part)

    def _decode(self, packet: Packet) -> list[AudioFrame]:
        """The frames of a packet; none where it is damaged, and what follows keeps its time."""
        self.packets += 1
        try:
            return packet.decode()
        except FFmpegError:
            self.damaged += 1
            return []

    def flush(self) -> Iterator[Timed]:
        """See Lane."""
        for part in self._resampler.resample(None):
            yield from self._encode(part)
        yield from self._encode(None)

    def _encode(self, frame: AudioFrame | None) -> Iterator[Timed]:
        for packet in self._stream.encode(frame):
            yield packet.dts * packet.time_base, packet


def _choose_layout(codec: str, rate: int, own: AudioLayout) -> str:
    """The channel layout to encode: the track's own where the encoder takes it, else the usual one.

    Many old files count their channels without naming them, and Opus has no speakers at the side.
    """
    for layout in (own.name, _USUAL.get(own.nb_channels, "stereo")):
        context = CodecContext.create(codec, "w")
        with suppress(FFmpegError, ValueError):
            context.sample_rate, context.layout, context.format = rate, layout, context.codec.audio_formats[0]
            context.open()
            return layout
    return "stereo"
