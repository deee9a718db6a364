"""Frames through one libav filter that gives a frame for a frame."""

from av import VideoFrame
from av.filter import Graph

from vidlatent.io.picture.cropping import Insets
from vidlatent.io.picture.orientation import Orientation


class Pass:
    """One filter, its graph rebuilt whenever frames change shape."""

    def __init__(self, name: str, arguments: str) -> None:
        self._filter = (name, arguments)
        self._graph: Graph | None = None
        self._shape: tuple[int, int, str] | None = None

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """The filtered frame, at the same time."""
        shape = (frame.width, frame.height, frame.format.name)
        if self._graph is None or shape != self._shape:
            self._graph, self._shape = chain(shape, [self._filter]), shape
        self._graph.vpush(frame)
        passed = self._graph.vpull()
        passed.pts, passed.duration = frame.pts, frame.duration
        return passed


class Shown:
    """A window of frames, turned. libav turns planes several times as fast as numpy turns pixels."""

    def __init__(self, orientation: Orientation, window: Insets) -> None:
        cut = [_cut(window)] if window else []
        self._passes = [Pass(*step) for step in cut + _steps(orientation)]

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """The frame as displayed; the same frame where there is nothing to do."""
        for step in self._passes:
            frame = step(frame)
        return frame


def _cut(window: Insets) -> tuple[str, str]:
    """The filter that leaves away insets, whatever the size of the picture."""
    size = f"iw-{window.left + window.right}:ih-{window.top + window.bottom}"
    return "crop", f"{size}:{window.left}:{window.top}:exact=1"


def _steps(orientation: Orientation) -> list[tuple[str, str]]:
    """The filters that make up an orientation."""
    if orientation.transpose:
        rows, columns = orientation.flip_rows, orientation.flip_columns
        directions = {(0, 0): "cclock_flip", (0, 1): "clock", (1, 0): "cclock", (1, 1): "clock_flip"}
        return [("transpose", f"dir={directions[int(rows), int(columns)]}:passthrough=none")]
    flips = (("vflip", orientation.flip_rows), ("hflip", orientation.flip_columns))
    return [(name, "") for name, wanted in flips if wanted]


def chain(shape: tuple[int, int, str], filters: list[tuple[str, str]], time_base: str = "1/1") -> Graph:
    """A graph of filters in a row for frames of (width, height, pixel format)."""
    width, height, pix_fmt = shape
    graph = Graph()
    ends = [
        graph.add(
            "buffer",
            video_size=f"{width}x{height}",
            pix_fmt=pix_fmt,
            time_base=time_base,
            pixel_aspect="1/1",
        )
    ]
    ends += [graph.add(name, arguments or None) for name, arguments in filters]
    ends.append(graph.add("buffersink"))
    graph.link_nodes(*ends)
    graph.configure()
    return graph
