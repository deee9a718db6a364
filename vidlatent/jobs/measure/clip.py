"""A clip that can be read again and again, and gives the same frames each time."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from vidlatent.errors import BadInput
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

    def __post_init__(self) -> None:
        if self.path == "-":
            raise BadInput("-: a clip is read several times, stdin only once", "name a file")

    def frames(self) -> Iterator[np.ndarray]:
        """Frames [H, W, 3] uint8 or uint16, as the protocol prepares them."""
        with open_video(self.path, self.read) as video:
            self.info = video.info
            with closing(video.frames()) as source:
                pixels = (np.ascontiguousarray(frame.rgb) for frame in source)
                for rgb in self.protocol.clip(pixels, self.path):
                    self.size = (rgb.shape[1], rgb.shape[0])
                    yield rgb
            self.notices = tuple(video.notices)

    @property
    def fps(self) -> float:
        """Frames per second of what is measured; 0 where the source has no rate."""
        rate = self.info.average_rate if self.info else None
        return float(rate / self.protocol.stride) if rate else 0.0
