"""libav filters that give exactly one frame for each frame."""

from av import VideoFrame
from av.filter import Graph

from vidlatent.io.picture.cropping import Insets
from vidlatent.io.picture.orientation import Orientation


class FilterPass:
    """One filter with its graph, which is rebuilt whenever frames change their size or format."""

    def __init__(self, name: str, arguments: str) -> None:
        self._filter = (name, arguments)
        self._graph: Graph | None = None
        self._shape: tuple[int, int, str] | None = None

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """The filtered frame, with the pts and duration of `frame`."""
        shape = (frame.width, frame.height, frame.format.name)
        if self._graph is None or shape != self._shape:
            self._graph, self._shape = build_graph(shape, [self._filter]), shape
        self._graph.vpush(frame)
        passed = self._graph.vpull()
        passed.pts, passed.duration = frame.pts, frame.duration
        return passed


class DisplayPass:
    """Cuts a window out of stored frames and rotates it, so that frames are as displayed.

    libav rotates planes several times as fast as numpy rotates pixels.
    """

    def __init__(self, orientation: Orientation, window: Insets) -> None:
        cut = [_crop_filter(window)] if window else []
        self._filters = [FilterPass(*step) for step in cut + _turn_filters(orientation)]

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """The frame as displayed; the frame itself where nothing must be done."""
        for step in self._filters:
            frame = step(frame)
        return frame


def _crop_filter(window: Insets) -> tuple[str, str]:
    """Name and arguments of the filter that cuts off insets, whatever the size of the picture."""
    size = f"iw-{window.left + window.right}:ih-{window.top + window.bottom}"
    return "crop", f"{size}:{window.left}:{window.top}:exact=1"


def _turn_filters(orientation: Orientation) -> list[tuple[str, str]]:
    """Names and arguments of the filters that apply an orientation."""
    if orientation.transpose:
        rows, columns = orientation.flip_rows, orientation.flip_columns
        directions = {(0, 0): "cclock_flip", (0, 1): "clock", (1, 0): "cclock", (1, 1): "clock_flip"}
        return [("transpose", f"dir={directions[int(rows), int(columns)]}:passthrough=none")]
    flips = (("vflip", orientation.flip_rows), ("hflip", orientation.flip_columns))
    return [(name, "") for name, wanted in flips if wanted]


def build_graph(shape: tuple[int, int, str], filters: list[tuple[str, str]], time_base: str = "1/1") -> Graph:
    """A graph that applies filters one after the other to frames of (width, height, pixel format)."""
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
