"""Decodes the packets of one stream into pictures, and says where the stream breaks."""

from collections.abc import Iterator
from fractions import Fraction

from av import Packet, VideoFrame
from av.container import InputContainer
from av.error import FFmpegError
from av.filter import Graph
from av.video.stream import VideoStream

from vidlatent.errors import BadVideo, parameter
from vidlatent.io.picture.integrity import find_fault, find_torn_end
from vidlatent.io.picture.passes import build_graph
from vidlatent.io.read.bare_frames import RAW, YUV4MPEG, CutOffCheck, Pipe
from vidlatent.io.read.ffmpeg import reason
from vidlatent.io.sources.source import Source, look_into

# Recordings that may begin in the middle of a group of pictures, as cut from a broadcast.
_STARTS_ANYWHERE = {"mpegts", "mpeg", "mpegvideo", "h264", "hevc"}
# Codecs whose decoders make pictures up, or refuse, until the first keyframe; others find their way.
_NEEDS_KEYFRAME = {
    *("mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "h263", "flv", "wmv1", "wmv2", "wmv3", "vc1", "theora"),
    *("vp6", "vp6f", "vp8", "vp9", "libvpx", "libvpx-vp9", "av1", "libdav1d", "libaom-av1"),
}
# Codecs of which every packet is a picture (or, interlaced, a field of one).
_PICTURE_PER_PACKET = {"h264", "hevc", "mpeg4", "mpeg2video", "mjpeg", "ffv1", "prores"}
_HINT = f"use {parameter('allow_truncated')} to keep the frames before it"


class Pictures:
    """Every frame that a decoder gives, in display order.

    `count` counts them, `concealed` those that the decoder marks as damaged, `skipped` the packets and
    pictures before the first that can be decoded, for a stream may begin between two keyframes.
    `ended_early` says what broke the stream, where `allow_truncated` accepts that; `complete` is true once
    the stream was read to its end.
    """

    def __init__(
        self,
        source: Source,
        container: InputContainer,
        stream: VideoStream,
        allow_truncated: bool,
        pipe: Pipe | None = None,
    ) -> None:
        self._source = source
        self._container = container
        self._stream = stream
        self._allow_truncated = allow_truncated
        self._cut_off_check = CutOffCheck(source, pipe) if container.format.name in (RAW, YUV4MPEG) else None
        self.count = self.concealed = self.skipped = self._packets = 0
        self._begun = False  # whether a packet was seen
        self._between_keyframes = False  # whether the stream begins there, and its first keyframe is to come
        self._interlaced = False
        self.complete = False
        self.ended_early: str | None = None

    def __iter__(self) -> Iterator[VideoFrame]:
        try:
            for packet in self._container.demux(self._stream):
                if self._cut_off_check and not self._cut_off_check.is_whole(packet):
                    break
                self._packets += packet.size > 0 and not packet.is_discard
                self._note_beginning(packet)
                for frame in self._decode(packet):
                    if self._is_made_up(frame):
                        self.skipped += 1
                        continue
                    self.count += 1
                    self.concealed += frame.is_corrupt
                    self._interlaced |= frame.interlaced_frame
                    yield frame
        except FFmpegError as e:
            self._break(f"frame {self.count} cannot be decoded ({reason(e)})", e)
            return
        if wrong := self._find_fault():
            self._break(f"frame {self.count}: {wrong}", None)
        self.complete = self.ended_early is None

    def _find_fault(self) -> str | None:
        """What is wrong with the end of the source, or with it as a whole."""
        if self._cut_off_check:
            return self._cut_off_check.find_fault()
        return look_into(self._source, find_fault)

    def _note_beginning(self, packet: Packet) -> None:
        if not self._begun and packet.size:
            self._begun = True
            needs = self._stream.codec_context.name in _NEEDS_KEYFRAME
            self._between_keyframes = needs and not packet.is_keyframe

    def _is_made_up(self, frame: VideoFrame) -> bool:
        """Whether a picture comes before the first keyframe, of which it would have to be made."""
        self._between_keyframes = self._between_keyframes and not frame.key_frame
        return self._between_keyframes

    def _decode(self, packet: Packet) -> list[VideoFrame]:
        try:
            return packet.decode()
        except FFmpegError:
            anywhere = self._between_keyframes or self._container.format.name in _STARTS_ANYWHERE
            if self.count or not anywhere:
                raise
            self.skipped += 1
            return []

    def _break(self, what: str, cause: Exception | None) -> None:
        if not self._allow_truncated:
            raise BadVideo(f"{self._source.name}: {what}", _HINT) from cause
        self.ended_early = what

    def notices(self) -> list[str]:
        """What went wrong without ending the reading."""
        found = []
        if self.ended_early:
            found.append(f"{self.ended_early}; {self.count} frames kept")
        elif self._cut_off_check is None and (torn := look_into(self._source, find_torn_end)):
            found.append(torn)
        if self.skipped:
            found.append(f"{self.skipped} packets before the first whole picture dropped")
        if self.concealed:
            found.append(f"{self.concealed} frames that the decoder marks as damaged")
        lost = self._packets - self.count - self.skipped
        one_to_one = self._stream.codec_context.name in _PICTURE_PER_PACKET and not self._interlaced
        if self.complete and one_to_one and lost > 0:
            found.append(f"{lost} packets gave no picture")
        return found


def deinterlace(pictures: Iterator[VideoFrame], time_base: Fraction) -> Iterator[VideoFrame]:
    """The same frames at the same times; in interlaced ones, one field is rebuilt from the other."""
    graph: Graph | None = None
    for picture in pictures:
        shape = (picture.width, picture.height, picture.format.name)
        graph = graph or build_graph(shape, [("bwdif", "mode=send_frame:deint=interlaced")], str(time_base))
        graph.vpush(picture)
        yield from _pull_frames(graph, time_base)
    if graph is not None:
        graph.vpush(None)
        yield from _pull_frames(graph, time_base)


def _pull_frames(graph: Graph, time_base: Fraction) -> Iterator[VideoFrame]:
    from av.error import BlockingIOError, EOFError

    while True:
        try:
            frame = graph.vpull()
        except (BlockingIOError, EOFError):
            return
        if frame.pts is not None and frame.time_base:
            frame.pts = round(frame.pts * frame.time_base / time_base)  # the filter counts in halves
            frame.duration = round((frame.duration or 0) * frame.time_base / time_base)
        yield frame
