"""Sound: carried packet by packet, never decoded unless a container cannot hold its codec.

`copy_audio` puts a video's audio packets, untouched, into an audio-only Matroska file; `AudioFeed` hands
them to a muxer again. Times stay those of the source: Matroska cannot tell negative ones, so a constant is
added to all of them, and told in the tag SHIFT. It rounds to milliseconds too; the feed puts packets of
constant length back on their exact grid.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av import Packet
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from vidlatent.files import replace_on_close
from vidlatent.io.ffmpeg import naming_errors, open_input

SHIFT = "VIDLATENT_SHIFT"  # seconds added to all times, as "num/den"
_PRIMING_S = Fraction(1)  # more than any codec's run-in, which starts before a track's start_time
_ROUNDING_S = Fraction(2, 1000)  # how far Matroska's milliseconds may be from the exact time


def copy_audio(
    source: Path, target_mka: Path, start: Fraction | None = None, end: Fraction | None = None
) -> int:
    """Copy all audio packets that start in [start, end) seconds; returns how many. No packets, no file."""
    if str(source) == "-" or source.is_dir():
        return 0
    with open_input(str(source)) as container:
        tracks = [s for s in container.streams.audio if s.codec_context is not None]
        packets = _between(_packets(source, container, tracks), start, end)
        first = next(packets, None)
        if first is None:
            return 0
        with replace_on_close(target_mka) as partial:
            return _write(partial, tracks, first, packets)


def _packets(source: Path, container: InputContainer, tracks: list[AudioStream]) -> Iterator[Packet]:
    if not tracks:
        return
    with naming_errors(str(source), "its sound cannot be read", "use --audio drop to leave it out"):
        for packet in container.demux(tracks):
            if packet.size and packet.dts is not None:
                yield packet


def _between(packets: Iterator[Packet], start: Fraction | None, end: Fraction | None) -> Iterator[Packet]:
    for packet in packets:
        at = _stamp(packet) * packet.time_base
        if (start is None or at >= start) and (end is None or at < end):
            yield packet


def _stamp(packet: Packet) -> int:
    return packet.pts if packet.pts is not None else packet.dts


def _write(partial: Path, tracks: list[AudioStream], first: Packet, rest: Iterator[Packet]) -> int:
    starts = [s.start_time * s.time_base for s in tracks if s.start_time is not None]
    shift = _PRIMING_S - min(Fraction(0), _stamp(first) * first.time_base, *starts)
    with av.open(str(partial), "w", format="matroska", options={"fflags": "+bitexact"}) as target:
        target.metadata[SHIFT] = str(shift)
        copies = {track.index: _copy_of(target, track) for track in tracks}
        count = 0
        for packet in _chain(first, rest):
            ticks = round(shift / packet.time_base)
            packet.pts, packet.dts = _stamp(packet) + ticks, packet.dts + ticks
            packet.stream = copies[packet.stream.index]
            target.mux(packet)
            count += 1
    return count


def _chain(first: Packet, rest: Iterator[Packet]) -> Iterator[Packet]:
    yield first
    yield from rest


def _copy_of(target: OutputContainer, track: AudioStream) -> AudioStream:
    """A stream of `target` for untouched packets of `track`, its language and title with it."""
    copy = target.add_stream_from_template(track)
    copy.metadata.update({k: v for k, v in track.metadata.items() if k in ("language", "title")})
    copy.disposition = track.disposition
    return copy


@dataclass
class _Grid:
    """Where the next packet of a track belongs, if the track's packets are all of one length."""

    step: Fraction | None  # seconds per packet
    expected: Fraction | None = None

    def place(self, about: Fraction) -> Fraction:
        """The exact time of a packet whose time is `about` that."""
        if self.step is None:
            return about
        on_grid = self.expected is not None and abs(about - self.expected) <= _ROUNDING_S
        at = self.expected if on_grid else about
        self.expected = at + self.step
        return at


class AudioFeed:
    """Muxes the packets of an audio file into a container, in step with its video."""

    def __init__(self, audio: Path, target: OutputContainer, offset: Fraction = Fraction(0)) -> None:
        """`offset` seconds are added to the source's times."""
        self._source = open_input(str(audio))
        self._target = target
        self._offset = offset - Fraction(self._source.metadata.get(SHIFT, "0"))
        tracks = list(self._source.streams.audio)
        self._copies = {track.index: _copy_of(target, track) for track in tracks}
        self._grids = {track.index: _Grid(_packet_length(track)) for track in tracks}
        self._packets = self._timed(tracks)
        self._next: tuple[Fraction, Packet] | None = next(self._packets, None)

    def _timed(self, tracks: list[AudioStream]) -> Iterator[tuple[Fraction, Packet]]:
        for packet in self._source.demux(tracks):
            if packet.size and packet.dts is not None:
                about = _stamp(packet) * packet.time_base + self._offset
                yield self._grids[packet.stream.index].place(about), packet

    def until(self, seconds: Fraction | None) -> None:
        """Mux what starts before `seconds` (None: all that is left)."""
        while self._next is not None and (seconds is None or self._next[0] < seconds):
            at, packet = self._next
            self._mux(at, packet)
            self._next = next(self._packets, None)

    def _mux(self, at: Fraction, packet: Packet) -> None:
        track = packet.stream
        tick = Fraction(1, track.codec_context.sample_rate or 90_000)
        length = self._grids[track.index].step or (packet.duration or 0) * packet.time_base
        packet.time_base = tick
        packet.pts = packet.dts = round(at / tick)
        packet.duration = round(length / tick)
        packet.stream = self._copies[track.index]
        self._target.mux(packet)

    def close(self) -> None:
        """Let go of the audio file."""
        self._source.close()


def _packet_length(track: AudioStream) -> Fraction | None:
    """Seconds of every packet, for codecs that say so."""
    context = track.codec_context
    return Fraction(context.frame_size, context.sample_rate) if context.frame_size else None
