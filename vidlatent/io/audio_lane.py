"""How one audio track gets into a container: as it is, or re-encoded where it cannot."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol

from av import AudioFrame, AudioResampler, Packet
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError

from vidlatent.io.languages import spelt

_ROUNDING_S = Fraction(2, 1000)  # how far Matroska's milliseconds may be from the exact time
_KEPT = ("language", "title", "handler_name")
_SUBSTITUTES = {"webm": "libopus"}  # elsewhere AAC
_OPUS_HZ = 48_000
_AAC_MAX_HZ = 96_000

Timed = tuple[Fraction, Packet]


class Lane(Protocol):
    """One track's way into a container."""

    notice: str

    def take(self, packet: Packet, about: Fraction) -> Iterator[Timed]:
        """Packets to mux, with their start in seconds, for a source packet that starts at `about`."""
        ...

    def flush(self) -> Iterator[Timed]:
        """What is still held back."""
        ...


def unspoken(target: OutputContainer, track: AudioStream) -> list[str]:
    """What is lost of a track's language, in words."""
    language = track.language
    if language in (None, "und") or spelt(language, target.format.name):
        return []
    return [f"{target.format.name} cannot tell the language {language} of its sound: left out"]


def lane_for(target: OutputContainer, track: AudioStream) -> Lane:
    """A copying lane where the container can hold the track's codec, else a re-encoding one."""
    try:
        return CopyLane(target, track)
    except ValueError:  # PyAV's answer to a codec that the format has no place for
        return RecodeLane(target, track)


def copy_of(target: OutputContainer, track: AudioStream) -> AudioStream:
    """A stream of `target` for untouched packets of `track`, its language and title with it."""
    return _labelled(target.add_stream_from_template(track), track)


def _labelled(stream: AudioStream, like: AudioStream) -> AudioStream:
    stream.metadata.update({k: v for k, v in like.metadata.items() if k in _KEPT})
    if "language" in stream.metadata:
        stream.metadata["language"] = (
            spelt(stream.metadata["language"], stream.container.format.name) or "und"
        )
    stream.disposition = like.disposition
    return stream


class CopyLane:
    """Packets as they are. Those of constant length are put on an exact grid."""

    notice = ""

    def __init__(self, target: OutputContainer, track: AudioStream) -> None:
        self._stream = copy_of(target, track)
        rate = track.codec_context.sample_rate
        samples = track.codec_context.frame_size
        self._tick = Fraction(1, rate or 90_000)
        self._length = Fraction(samples, rate) if samples and rate else None
        self._expected: Fraction | None = None

    def take(self, packet: Packet, about: Fraction) -> Iterator[Timed]:
        """See Lane."""
        length = self._length or (packet.duration or 0) * packet.time_base
        at = self._on_grid(about)
        packet.time_base = self._tick
        packet.pts = packet.dts = round(at / self._tick)
        packet.duration = round(length / self._tick)
        packet.stream = self._stream
        yield at, packet

    def _on_grid(self, about: Fraction) -> Fraction:
        if self._length is None:
            return about
        near = self._expected is not None and abs(about - self._expected) <= _ROUNDING_S
        at = self._expected if near else about
        self._expected = at + self._length
        return at

    def flush(self) -> Iterator[Timed]:
        """See Lane."""
        return iter(())


class RecodeLane:
    """Decodes and encodes again, for containers that cannot hold the source's codec."""

    def __init__(self, target: OutputContainer, track: AudioStream) -> None:
        codec = _SUBSTITUTES.get(target.format.name, "aac")
        rate = track.codec_context.sample_rate
        rate = _OPUS_HZ if codec == "libopus" else min(rate, _AAC_MAX_HZ)
        self._source = track
        self._stream = _labelled(target.add_stream(codec, rate), track)
        self._stream.codec_context.layout = track.codec_context.layout
        self._stream.codec_context.bit_rate = 64_000 * track.codec_context.channels
        self._resampler = AudioResampler(
            format=self._stream.codec_context.format, layout=track.codec_context.layout, rate=rate
        )
        self.notice = (
            f"{track.codec_context.name} sound re-encoded to {codec}: {target.format.name} cannot hold it"
        )

    def take(self, packet: Packet, about: Fraction) -> Iterator[Timed]:
        """See Lane."""
        at = about
        for frame in self._decoded(packet):
            frame.time_base = Fraction(1, frame.sample_rate)
            frame.pts = round(at * frame.sample_rate)
            at += Fraction(frame.samples, frame.sample_rate)
            for part in self._resampler.resample(frame):
                yield from self._encoded(part)

    def _decoded(self, packet: Packet) -> list[AudioFrame]:
        """Nothing for a damaged packet: what follows keeps its time."""
        try:
            return packet.decode()
        except FFmpegError:
            return []

    def flush(self) -> Iterator[Timed]:
        """See Lane."""
        for part in self._resampler.resample(None):
            yield from self._encoded(part)
        yield from self._encoded(None)

    def _encoded(self, frame: AudioFrame | None) -> Iterator[Timed]:
        for packet in self._stream.encode(frame):
            yield packet.dts * packet.time_base, packet
