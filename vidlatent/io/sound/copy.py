"""Copies sound packet by packet; it is decoded only where a container cannot hold its codec.

`copy_audio` puts the audio packets of a video, unchanged, into an audio-only Matroska file, or into ASF, NUT
or QuickTime where Matroska cannot hold a codec (telephone, Windows Media, ADPCM). `AudioFeed` hands them to a
muxer again. Times stay those of the source. Matroska has no negative times, so a constant is added to all of
them, which the tag SHIFT states. Matroska also rounds times to milliseconds; the feed puts packets of
constant length back on their exact grid.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from io import BytesIO
from itertools import chain
from pathlib import Path

import av
from av import Packet
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError

from vidlatent.errors import BadVideo, parameter
from vidlatent.files import replace_on_close
from vidlatent.io.containers import create_file, open_sound_file
from vidlatent.io.file_parts import FilePart
from vidlatent.io.picture.timeline import Timeline
from vidlatent.io.read.ffmpeg import STDIN, naming_errors, open_input
from vidlatent.io.sound.lane import CopyLane, Lane, add_copy, lane_for, lost_language
from vidlatent.io.sources.disk import DiskSource

SHIFT = "VIDLATENT_SHIFT"  # seconds added to all times, as "num/den"
# Containers for sound alone, with the options by which they keep the tag SHIFT. The first that can hold all
# tracks is used.
_CARRIERS = {"matroska": {}, "asf": {}, "nut": {}, "mov": {"movflags": "+use_metadata_tags"}}
_DROP = f"use {parameter('audio')} drop to leave it out"
_SHIFT_FORM = re.compile(r"-?\d{1,18}(/[1-9]\d{0,17})?")
_PRIMING_S = Fraction(1)  # longer than any codec's priming, which begins before a track's start_time


def copy_audio(
    source: Path, target_mka: Path, start: Fraction | None = None, end: Fraction | None = None
) -> int:
    """Copy all audio packets that start in [start, end) seconds, and return their number.

    Where there are none, no file is written.
    """
    if str(source) == STDIN or source.is_dir():
        return 0
    with open_input(DiskSource(source)) as container:
        tracks = [s for s in container.streams.audio if s.codec_context is not None]
        packets = _keep_between(_read_packets(source, container, tracks), start, end)
        first = next(packets, None)
        if first is None:
            return 0
        damaged = naming_errors(str(source), "its sound cannot be copied", _DROP)
        with replace_on_close(target_mka) as partial, damaged, _passing_disk_errors():
            return _write(partial, tracks, chain([first], packets), _find_shift(first, tracks))


@contextmanager
def _passing_disk_errors() -> Iterator[None]:
    """Tell errors of the disk from faults of the sound; `replace_on_close` names them."""
    try:
        yield
    except FFmpegError as e:
        if isinstance(e, OSError):
            raise OSError(e.errno, e.strerror) from e
        raise


def _read_packets(source: Path, container: InputContainer, tracks: list[AudioStream]) -> Iterator[Packet]:
    if not tracks:
        return
    with naming_errors(str(source), "its sound cannot be read", _DROP):
        for packet in container.demux(tracks):
            if packet.size and packet.dts is not None:
                yield packet


def _keep_between(
    packets: Iterator[Packet], start: Fraction | None, end: Fraction | None
) -> Iterator[Packet]:
    for packet in packets:
        at = _start_of(packet) * packet.time_base
        if (start is None or at >= start) and (end is None or at < end):
            yield packet


def _start_of(packet: Packet) -> int:
    return packet.pts if packet.pts is not None else packet.dts


def _find_shift(first: Packet, tracks: list[AudioStream]) -> Fraction:
    """The seconds that must be added so that no track begins below zero."""
    starts = [s.start_time * s.time_base for s in tracks if s.start_time is not None]
    return _PRIMING_S - min(Fraction(0), _start_of(first) * first.time_base, *starts)


def _write(partial: Path, tracks: list[AudioStream], packets: Iterator[Packet], shift: Fraction) -> int:
    """Write the packets, each track on a clock that only moves forward, as muxers demand; their number."""
    clocks = {track.index: Timeline(track.time_base, None) for track in tracks}
    count = 0
    kind = _choose_carrier(tracks)
    options = {"fflags": "+bitexact", **_CARRIERS[kind]}
    with create_file(partial, kind, options=options) as target:
        target.metadata[SHIFT] = str(shift)
        copies = {track.index: add_copy(target, track) for track in tracks}
        for packet in packets:
            clock, length = clocks[packet.stream.index], (packet.duration or 0) * packet.time_base
            at = clock.place(_start_of(packet)) + round(shift / clock.time_base)
            packet.time_base = clock.time_base
            packet.pts = packet.dts = at
            packet.duration = round(length / clock.time_base)
            packet.stream = copies[packet.stream.index]
            target.mux(packet)
            count += 1
    return count


def _choose_carrier(tracks: list[AudioStream]) -> str:
    """The first container that can hold all tracks as they are."""
    for kind in _CARRIERS:
        with suppress(ValueError), av.open(BytesIO(), "w", format=kind) as trial:
            for track in tracks:
                add_copy(trial, track)
            return kind
    return "matroska"  # its error then says what it cannot hold


def _open_audio(audio: Path | FilePart) -> InputContainer:
    path = audio if isinstance(audio, Path) else audio.path
    with naming_errors(str(path), "its sound cannot be read", _DROP):
        return open_sound_file(audio)


def read_shift(text: str) -> Fraction:
    """The seconds that SHIFT states, "num/den"; raises BadVideo where it is no such number."""
    if not _SHIFT_FORM.fullmatch(text):
        raise BadVideo(f"the sound's tag {SHIFT} is {text[:40]!r}, expected seconds as num/den", _DROP)
    return Fraction(text)


class AudioFeed:
    """Muxes the packets of an audio file into a container, in step with its video.

    `notices` says which tracks had to be re-encoded because the container cannot hold their codec.
    """

    def __init__(
        self, audio: Path | FilePart, target: OutputContainer, offset: Fraction = Fraction(0)
    ) -> None:
        """`offset` seconds are added to the source's times."""
        self._source = _open_audio(audio)
        self._target = target
        self._offset = offset - read_shift(self._source.metadata.get(SHIFT, "0"))
        tracks = list(self._source.streams.audio)
        self._lanes: dict[int, Lane] = {track.index: lane_for(target, track) for track in tracks}
        self.notices = [lane.notice for lane in self._lanes.values() if not isinstance(lane, CopyLane)]
        self.notices += [words for track in tracks for words in lost_language(target, track)]
        self._routed = self._route_packets(tracks)
        self._next: tuple[Fraction, Packet] | None = next(self._routed, None)

    def _route_packets(self, tracks: list[AudioStream]) -> Iterator[tuple[Fraction, Packet]]:
        """Packets for the target's streams, with the times at which they start."""
        for packet in self._source.demux(tracks):
            if packet.size and packet.dts is not None:
                yield from self._lanes[packet.stream.index].take(
                    packet, _start_of(packet) * packet.time_base + self._offset
                )
        for lane in self._lanes.values():
            yield from lane.flush()

    def mux_until(self, seconds: Fraction | None) -> None:
        """Mux the packets that start before `seconds`; None: all that are left."""
        while self._next is not None and (seconds is None or self._next[0] < seconds):
            self._target.mux(self._next[1])
            self._next = next(self._routed, None)

    def losses(self) -> list[str]:
        """What was lost of the sound, in words; known once all of it was muxed."""
        return [
            f"sound of {lane.damaged} of {lane.packets} packets lost: they cannot be decoded"
            for lane in self._lanes.values()
            if lane.damaged
        ]

    def close(self) -> None:
        """Close the audio file."""
        self._source.close()
