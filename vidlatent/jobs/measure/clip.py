"""A clip that can be read again and again, and gives the same frames each time."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from vidlatent.errors import BadInput
from vidlatent.io.picture.info import Frame
from vidlatent.io.read.source import ReadOptions, VideoInfo, open_video
from vidlatent.jobs.measure.protocols import Protocol


@dataclass
class MeasuredClip:
    """The part of a video that is measured. `info` and `notices` are those of the last reading."""

    path: str
    read: ReadOptions
    protocol: Protocol
    info: VideoInfo | None = None
    notices: tuple[str, ...] = ()
    size: tuple[int, int] = field(default=(0, 0))  # width, height of its frames
    times_s: list[float] = field(default_factory=list)  # of the frames given so far, from the first

    def __post_init__(self) -> None:
        if self.path == "-":
            raise BadInput("-: a clip is read several times, stdin only once", "name a file")

    def frames(self) -> Iterator[np.ndarray]:
        """Frames [H, W, 3] uint8 or uint16, as the protocol prepares them."""
        with open_video(self.path, self.read) as video:
            self.info = video.info
            with closing(video.frames()) as source:
                pts: list[int] = []
                self.times_s = []
                for rgb in self.protocol.clip(_take_pixels(source, pts), self.path):
                    self.size = (rgb.shape[1], rgb.shape[0])
                    self.times_s.append(float((pts[-1] - pts[0]) * video.info.time_base))
                    yield rgb
            self.notices = tuple(video.notices)

    @property
    def fps(self) -> float:
        """Frames per second of what is measured; 0 where the source has no rate."""
        rate = self.info.average_rate if self.info else None
        return float(rate / self.protocol.stride) if rate else 0.0


def _take_pixels(frames: Iterator[Frame], pts: list[int]) -> Iterator[np.ndarray]:
    """The pixels [H, W, 3] of each frame; its time is added to `pts`."""
    for frame in frames:
        pts.append(frame.pts)
        yield np.ascontiguousarray(frame.rgb)
