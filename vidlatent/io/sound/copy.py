"""Sound: carried packet by packet, never decoded unless a container cannot hold its codec.

`copy_audio` puts a video's audio packets, untouched, into an audio-only Matroska file, or ASF, NUT or
QuickTime where Matroska has no place for a codec (telephone, Windows Media, ADPCM); `AudioFeed` hands them
to a muxer again. Times stay those of the source: Matroska cannot tell negative ones, so a constant is added
to all of them, and told in the tag SHIFT. It rounds to milliseconds too; the feed puts packets of constant
length back on their exact grid.
"""

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from io import BytesIO
from itertools import chain
from pathlib import Path

import av
from av import Packet
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from vidlatent.errors import parameter
from vidlatent.files import replace_on_close
from vidlatent.io.file_parts import FilePart
from vidlatent.io.picture.timeline import Timeline
from vidlatent.io.read.ffmpeg import STDIN, naming_errors, open_input
from vidlatent.io.sound.lane import CopyLane, Lane, copy_of, lane_for, unspoken

SHIFT = "VIDLATENT_SHIFT"  # seconds added to all times, as "num/den"
# Kinds of file for sound alone, the first that holds all of it is taken, and what lets them tell SHIFT.
_CARRIERS = {"matroska": {}, "asf": {}, "nut": {}, "mov": {"movflags": "+use_metadata_tags"}}
_DROP = f"use {parameter('audio')} drop to leave it out"
_PRIMING_S = Fraction(1)  # more than any codec's run-in, which starts before a track's start_time


def copy_audio(
    source: Path, target_mka: Path, start: Fraction | None = None, end: Fraction | None = None
) -> int:
    """Copy all audio packets that start in [start, end) seconds; returns how many. No packets, no file."""
    if str(source) == STDIN or source.is_dir():
        return 0
    with open_input(str(source)) as container:
        tracks = [s for s in container.streams.audio if s.codec_context is not None]
        packets = _between(_packets(source, container, tracks), start, end)
        first = next(packets, None)
        if first is None:
            return 0
        damaged = naming_errors(str(source), "its sound cannot be copied", _DROP)
        with replace_on_close(target_mka) as partial, damaged:
            return _write(partial, tracks, chain([first], packets), _shift(first, tracks))


def _packets(source: Path, container: InputContainer, tracks: list[AudioStream]) -> Iterator[Packet]:
    if not tracks:
        return
    with naming_errors(str(source), "its sound cannot be read", _DROP):
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


def _shift(first: Packet, tracks: list[AudioStream]) -> Fraction:
    """Seconds that bring every track above zero."""
    starts = [s.start_time * s.time_base for s in tracks if s.start_time is not None]
    return _PRIMING_S - min(Fraction(0), _stamp(first) * first.time_base, *starts)


def _write(partial: Path, tracks: list[AudioStream], packets: Iterator[Packet], shift: Fraction) -> int:
    """Packets in order, on clocks that only move forward, as muxers demand."""
    clocks = {track.index: Timeline(track.time_base, None) for track in tracks}
    count = 0
    kind = _carrier(tracks)
    options = {"fflags": "+bitexact", **_CARRIERS[kind]}
    with av.open(str(partial), "w", format=kind, options=options) as target:
        target.metadata[SHIFT] = str(shift)
        copies = {track.index: copy_of(target, track) for track in tracks}
        for packet in packets:
            clock, length = clocks[packet.stream.index], (packet.duration or 0) * packet.time_base
            at = clock.place(_stamp(packet)) + round(shift / clock.time_base)
            packet.time_base = clock.time_base
            packet.pts = packet.dts = at
            packet.duration = round(length / clock.time_base)
            packet.stream = copies[packet.stream.index]
            target.mux(packet)
            count += 1
    return count


def _carrier(tracks: list[AudioStream]) -> str:
    """The kind of file that holds all of these as they are."""
    for kind in _CARRIERS:
        with suppress(ValueError), av.open(BytesIO(), "w", format=kind) as trial:
            for track in tracks:
                copy_of(trial, track)
            return kind
    return "matroska"  # which will say what it cannot hold


def _opened(audio: Path | FilePart) -> InputContainer:
    if isinstance(audio, Path):
        return open_input(str(audio))
    with naming_errors(str(audio.path), "its sound cannot be read", _DROP):
        return av.open(audio, metadata_errors="replace")


class AudioFeed:
    """Muxes the packets of an audio file into a container, in step with its video.

    `notices` says which tracks had to be re-encoded because the container cannot hold their codec.
    """

    def __init__(
        self, audio: Path | FilePart, target: OutputContainer, offset: Fraction = Fraction(0)
    ) -> None:
        """`offset` seconds are added to the source's times."""
        self._source = _opened(audio)
        self._target = target
        self._offset = offset - Fraction(self._source.metadata.get(SHIFT, "0"))
        tracks = list(self._source.streams.audio)
        self._lanes: dict[int, Lane] = {track.index: lane_for(target, track) for track in tracks}
        self.notices = [lane.notice for lane in self._lanes.values() if not isinstance(lane, CopyLane)]
        self.notices += [words for track in tracks for words in unspoken(target, track)]
        self._ready = self._timed(tracks)
        self._next: tuple[Fraction, Packet] | None = next(self._ready, None)

    def _timed(self, tracks: list[AudioStream]) -> Iterator[tuple[Fraction, Packet]]:
        """Packets of the target's streams, and when they start."""
        for packet in self._source.demux(tracks):
            if packet.size and packet.dts is not None:
                yield from self._lanes[packet.stream.index].take(
                    packet, _stamp(packet) * packet.time_base + self._offset
                )
        for lane in self._lanes.values():
            yield from lane.flush()

    def until(self, seconds: Fraction | None) -> None:
        """Mux what starts before `seconds` (None: all that is left)."""
        while self._next is not None and (seconds is None or self._next[0] < seconds):
            self._target.mux(self._next[1])
            self._next = next(self._ready, None)

    def losses(self) -> list[str]:
        """What was lost of the sound, in words; known once all of it went by."""
        return [
            f"sound of {lane.damaged} of {lane.packets} packets lost: they cannot be decoded"
            for lane in self._lanes.values()
            if lane.damaged
        ]

    def close(self) -> None:
        """Let go of the audio file."""
        self._source.close()
