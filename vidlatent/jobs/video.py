"""Opens a video for use in Python: its frames one by one, or some of them as a tensor."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal, Self

import numpy as np
import torch
from torch import Tensor

from vidlatent.engine import pixels
from vidlatent.errors import BadInput, UsageError
from vidlatent.io.read.ffmpeg import STDIN
from vidlatent.io.read.source import Frame, ReadOptions, VideoInfo, VideoSource
from vidlatent.io.read.source import open_video as open_source

LAYOUTS = ("THWC", "BCTHW")
Layout = Literal["THWC", "BCTHW"]


class Video:
    """An open video: what is known of it, and its frames. A context manager; made by `open_video`.

    It can be iterated, and read from, again and again, unless it comes through a pipe. `notices` say what was
    assumed, repaired or left out; they are complete once all frames were read.
    """

    def __init__(self, path: Path | str, options: ReadOptions | None, stream: BinaryIO | None) -> None:
        self._path, self._once = path, stream is not None or str(path) == STDIN
        self._open_again = partial(open_source, path, options)
        self._source = open_source(path, options, stream)
        self._length = self._source.info.counted_frames
        self._begun = self._closed = False

    @property
    def info(self) -> VideoInfo:
        """What the header and the first frame say of the video."""
        return self._source.info

    @property
    def notices(self) -> list[str]:
        """What was assumed, repaired or left out so far."""
        return self._source.notices

    def frames(self) -> Iterator[Frame]:
        """The frames in order, from the first one, in bounded memory: `frame.rgb` is [H, W, 3]."""
        self._demand_open()
        if not self._begun:
            self._begun = True
            return self._deliver(self._source)
        if self._once:
            raise UsageError(f"{self._path}: a pipe gives its frames once", "write it into a file first")
        return self._deliver_again()

    __iter__ = frames

    def __len__(self) -> int:
        if self._length is None:
            raise TypeError(
                f"{self._path}: how many frames it has is known once all were read; "
                "info.header_frames is what its header claims"
            )
        return self._length

    def __bool__(self) -> bool:
        return True  # otherwise Python would ask for the length

    def read(self, start: int = 0, stop: int | None = None, layout: Layout = "THWC") -> Tensor:
        """Frames [start, stop), or all, as one tensor.

        It is [T, H, W, 3] of uint8, or uint16 where the source has more than 8 bits. With `layout="BCTHW"` it
        is [1, 3, T, H, W] of float32 in [-1, 1], which a model encodes. The video is read from its beginning,
        so that frame numbers are exact.
        """
        if layout not in LAYOUTS:
            raise UsageError(f"layout {layout}: unknown", f"one of {', '.join(LAYOUTS)}")
        if start < 0 or (stop is not None and stop <= start):
            raise UsageError(
                f"{self._path}: frames {start} to {stop}", "count from 0, with the end after the start"
            )
        with closing(self.frames()) as frames:
            found = [frame.rgb for frame in islice(frames, start, stop)]
        if len(found) < (1 if stop is None else stop - start):
            wanted = f"from {start} on" if stop is None else f"{start} to {stop}"
            has = str(start + len(found)) if found else f"at most {start}"
            raise BadInput(f"{self._path}: frames {wanted} asked for, it has {has}")
        clip = torch.from_numpy(np.stack(found))
        return clip if layout == "THWC" else pixels.to_floats(clip).movedim(-1, 0)[None]

    def close(self) -> None:
        """Close the file."""
        if not self._closed:
            self._closed = True
            self._source.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        info, length = self.info, "" if self._length is None else f"{self._length} frames of "
        rate = f", {info.average_rate} frames/s" if info.average_rate else ""
        state = ", closed" if self._closed else ""
        return f"Video({self._path}: {length}{info.width}x{info.height}{rate}, {info.codec}{state})"

    def _deliver(self, source: VideoSource) -> Iterator[Frame]:
        count = 0
        for frame in source.frames():
            yield frame
            self._demand_open()
            count += 1
        self._length = count

    def _deliver_again(self) -> Iterator[Frame]:
        with self._open_again() as again:
            yield from self._deliver(again)

    def _demand_open(self) -> None:
        if self._closed:
            raise UsageError(
                f"{self._path}: this video was closed", "read inside of its `with`, or open it again"
            )


def open_video(path: Path | str, options: ReadOptions | None = None, stream: BinaryIO | None = None) -> Video:
    """Open a video file, an image, a folder of images, or YUV4MPEG (or raw frames) on stdin ("-").

    With a `stream` YUV4MPEG or raw frames are read from it, and `path` is its name. Raises BadVideo where no
    picture can be read.
    """
    return Video(path, options, stream)
